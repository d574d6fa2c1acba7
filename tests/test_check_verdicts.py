"""`Check`: the verdict on layers whose statistics are given, whoever measured them."""

from winit_fast.check import Check, CheckedLayer, LayerStatistics, Weights


def checked(name, entering=1.0, gradient=1.0, width=8, weights=1.0, **more):
    statistics = LayerStatistics(mean=0.0, std=entering, spread=1.0, gradient_norm=gradient, name=name)
    of_weights = Weights(f"{name}.weight", (width, 8), weights, 1, 0)
    return CheckedLayer(name, "Linear", "", of_weights, statistics, entering=entering, **more)


HEAD = checked("head", gradient=1e-9)


def test_a_branch_that_begins_small_is_passed_over_and_what_follows_is_not():
    blocks = [checked(f"{n}.{part}", size, size) for n in range(5) for part, size in (("a", 1.0), ("b", 1e-4))]
    assert Check((*blocks, HEAD)).verdict.findings == ()
    assert Check((checked("stem"), *blocks[1:], HEAD)).verdict.findings == ()
    blocks = [checked(f"{n}.{part}") for n in range(5) for part in "ab"]
    # Three in a row may be a branch, four are a course; up to the end, one will do.
    for count in (3, 4):
        small = [checked(f"x.{letter}", 1e-4, 1e-4) for letter in "abcd"[:count]]
        words = [(one.word, one.layer, one.of) for one in Check((*blocks, *small, *blocks, HEAD)).verdict.findings]
        expected = [("vanishes", 12 - 1, "entering"), ("vanishes", 14, "gradient")]
        assert words == (expected if count == 4 else [])
    (one,) = Check((*blocks, checked("head", 1e-4, 1e-9))).verdict.findings
    assert (str(one), one.reference) == ("vanishes at layer 11", 2)
    assert one.reason == "the signal in its inputs is 0.0001 of that in the inputs of layer 2"


def test_where_signals_are_normalized_a_small_beginning_is_no_reference():
    layers = (checked("stem"), checked("x", 1e-3), checked("y", 1e-3), *(checked(f"part_{n}") for n in "abcdef"), HEAD)
    assert Check(layers, is_normalized=True).verdict.findings == ()
    assert str(Check(layers).verdict) == "explodes at layer 4"


def test_a_drift_must_lessen_by_a_part_of_its_logarithm():
    def course(smallest):
        return checked("a"), checked("b"), checked("c", smallest), HEAD

    for now, then, is_improved in ((1 / 90, 1 / 60, False), (1 / 90, 1 / 20, True), (1.0, 1.0, False)):
        assert Check(course(now), tried=course(then)).is_improved == is_improved


def test_gradients_of_the_first_block_are_compared_with_those_of_their_name_and_shape():
    def blocks(query, shape=8):
        return [
            checked(f"{n}.{part}", 1.0, size, shape) for n in range(4) for part, size in (("q", query[n]), ("o", 1.0))
        ]

    assert Check((*blocks([1e-4] * 4), HEAD)).verdict.findings == ()
    assert Check((*blocks([0.0] * 4), HEAD)).verdict.findings == ()
    (one,) = Check((*blocks([1e-7, 1e-4, 1e-4, 1e-4]), HEAD)).verdict.findings
    assert (str(one), one.reference) == ("gradient vanishes at layer 1", 7)
    (one,) = Check((checked("stem", 1.0, 1e-7), *blocks([1e-4] * 4)[1:], HEAD)).verdict.findings
    assert str(one) == "gradient vanishes at layer 1"


def test_gradients_of_output_layers_are_the_losss_own():
    trunk = [checked(f"{n}", 1.0, 1.0) for n in range(6)]
    heads = [checked("policy", 1.0, 1e-6, is_output=True), checked("value", 1.0, 1e6, is_output=True)]
    assert Check((*trunk, *heads)).verdict.findings == ()
    assert [str(one) for one in Check((*trunk, heads[0], *trunk)).verdict.findings] == []
    others = [checked("policy", 1.0, 1e-6), checked("other", 1.0, 1e-6), heads[1]]
    assert str(Check((*trunk, *others)).verdict) == "gradient explodes at layer 6"
    # An output layer that begins with 0 lets no gradient pass at first, and says nothing of the others.
    silent = [checked(f"{n}", 1.0, 0.0) for n in range(6)]
    assert Check((*silent, checked("head", 1.0, 1.0, weights=0.0))).verdict.findings == ()
    assert Check((*silent, HEAD)).verdict.findings[0].reason == "its gradient is 0"
