"""Runs compiled PTX on the CPU: the threads of a block side by side, one block after another.

Each operation is what the PTX ISA says that it is. Floating-point ones must be named ``.rn`` and not ``.ftz``: those
are IEEE's, and NumPy's. All others are refused. So a kernel that gives the right bits here gives them on every device
that does what its ISA says. What translates PTX to machine code, and the silicon, come after it.
"""

import re

import numpy as np
from ml_dtypes import bfloat16

__all__ = ["BASE", "Program", "operations_of"]

#: Where the memory stands that a program is given.
BASE = 0x7F0000000000

_WIDTHS = {"%p": 1, "%rs": 16, "%r": 32, "%f": 32, "%rd": 64, "%fd": 64}
_LINE = re.compile(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*?);$")
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]]+")
_WARP = 32


def operations_of(ptx):
    """The operations of a program, each once."""
    return {operation for _, _, operation, _ in _read(ptx)[1]}


def _read(ptx):
    """The names and sizes of parameters; the program; and where its labels stand."""
    parameters = {
        name: int(size) // 8 for size, name in re.findall(r"\.param \.[a-z]+(\d+)(?: \.ptr[\w. ]*)? (\w+)", ptx)
    }
    body = re.sub(r"//[^\n]*", "", ptx[ptx.index("\n{") + 2 : ptx.rindex("\n}")])
    program, labels = [], {}
    for line in map(str.strip, body.splitlines()):
        if not line or line in "{}" or line.startswith("."):
            continue
        if line.endswith(":"):
            labels[line[:-1]] = len(program)
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"cannot read {line!r}")
        negated, predicate, operation, rest = found.groups()
        operands = [operand.strip() for operand in _OPERAND.findall(rest)]
        program.append(((negated or "", predicate), line, operation, [operand for operand in operands if operand]))
    return parameters, program, labels


def _unsigned(bits):
    return bool if bits == 1 else np.dtype(f"u{bits // 8}")


def _kind_of(text):
    """The NumPy type of the last part of an operation's name."""
    if text == "pred":
        return bool
    letter, bits = text[0], int(text[1:])
    return np.dtype({"b": "u", "u": "u", "s": "i", "f": "f"}[letter] + str(bits // 8))


class Program:
    """Compiled PTX of so many threads a block.

    `allows_fusion`: fma and what may be fused are run too, to see what they would do.
    """

    def __init__(self, ptx, threads=128, allows_fusion=False):
        self.parameters, self.program, self.labels = _read(ptx)
        self.threads = threads
        self.allows_fusion = allows_fusion

    def run(self, arguments, memory, blocks, first=0):
        """Write to `memory`, uint8 that stand at BASE; `arguments`: ints for the first parameters, or all.

        So many blocks run, from the first on.
        """
        values = [*arguments, *[0] * (len(self.parameters) - len(arguments))]
        given = {
            name: np.frombuffer((value % (1 << 8 * size)).to_bytes(size, "little"), np.uint8)
            for (name, size), value in zip(self.parameters.items(), values, strict=True)
        }
        for block in range(first, first + blocks):
            with np.errstate(all="ignore"):
                _Block(self, given, memory, block).run()


class _Block:
    def __init__(self, program, given, memory, block):
        self.program, self.given, self.block, self.threads = program, given, block, program.threads
        self.spaces = {"global": (memory, BASE), "shared": (np.zeros(1 << 17, np.uint8), 0)}
        self.registers = {}

    def run(self):
        at = 0
        while at < len(self.program.program):
            (negated, predicate), line, operation, operands = self.program.program[at]
            at += 1
            active = np.ones(self.threads, bool)
            if predicate:
                active = self.registers[predicate] ^ bool(negated)
            try:
                if operation in ("bra", "bra.uni", "ret"):
                    if active.any() != active.all():
                        raise NotImplementedError("a branch that part of a block takes")
                    if active.all():
                        at = len(self.program.program) if operation == "ret" else self.program.labels[operands[0]]
                elif not operation.startswith("bar."):
                    self.step(operation.split("."), operands, active)
            except Exception as error:
                raise type(error)(f"{error} in {line!r}") from error

    # Registers hold unsigned integers of their width, or booleans.

    def read(self, text, kind):
        kind = np.dtype(kind)
        if text in ("%tid.x", "%ctaid.x"):
            return (np.arange(self.threads) if text == "%tid.x" else np.full(self.threads, self.block)).astype(kind)
        if text.startswith("%"):
            # A half of a pair that nobody needs may be of a register that nobody wrote to: it holds anything.
            value = self.registers.get(text, np.full(self.threads, 0x7FC0DEAD7FC0DEAD, "u8"))
            if value.dtype.itemsize < kind.itemsize or (value.dtype.kind == "b") != (kind.kind == "b"):
                raise TypeError(f"{text} of {value.dtype} read as {kind}")
            return value if kind.kind == "b" else value.astype(_unsigned(8 * kind.itemsize)).view(kind)
        if text == "global_smem":
            return np.zeros(self.threads, kind)
        bits = int(text[2:], 16) if text[:2] in ("0f", "0d") else int(text.rstrip("U"), 0)
        return np.full(self.threads, bits % (1 << 8 * kind.itemsize), _unsigned(8 * kind.itemsize)).view(kind)

    def write(self, register, value, active):
        if register == "_":
            return
        bits = _WIDTHS[re.match(r"%[a-z]+", register)[0]]
        value = np.asarray(value)
        if bits > 1:
            value = value.view(f"u{value.dtype.itemsize}").astype(_unsigned(bits))
        elif value.dtype != bool:
            raise TypeError(f"{register} takes a predicate")
        if not active.all() and register in self.registers:
            value = np.where(active, value, self.registers[register])
        self.registers[register] = value

    def step(self, names, operands, active):
        name, kind = names[0], names[-1]
        if name in ("ld", "st") and names[1] != "param":
            self.move(names, operands, active)
        elif name == "ld":
            label, _, offset = operands[1].strip("[]").partition("+")
            kind, registers = _kind_of(kind), _names(operands[0])
            octets = self.given[label.strip()][int(offset or 0) :][: kind.itemsize * len(registers)]
            for register, value in zip(registers, octets.view(kind), strict=True):
                self.write(register, np.full(self.threads, value), active)
        elif name == "stmatrix":
            self.store_matrices(names, operands, active)
        elif name == "mov" and operands[0].startswith("{"):
            value, parts = self.read(operands[1], _kind_of(kind)), _names(operands[0])
            pieces = np.ascontiguousarray(value).view(f"u{value.dtype.itemsize // len(parts)}")
            for number, part in enumerate(parts):
                self.write(part, pieces.reshape(self.threads, -1)[:, number].copy(), active)
        elif name == "mov" and operands[1].startswith("{"):
            parts, whole = _names(operands[1]), _kind_of(kind)
            pieces = [self.read(part, f"u{whole.itemsize // len(parts)}") for part in parts]
            self.write(operands[0], np.stack(pieces, axis=1).view(whole)[:, 0].copy(), active)
        else:
            self.write(operands[0], self.compute(name, names[1:-1], kind, operands[1:]), active)

    def address(self, text, space):
        register, _, offset = text.strip("[] ").partition("+")
        register = register.strip()
        wide = register.startswith("%rd")
        return self.read(register, "i8" if wide else "i4").astype("i8") + int(offset or 0) - self.spaces[space][1]

    def move(self, names, operands, active):
        """Load or store, one item or several that follow each other."""
        space, kind = names[1], _kind_of(names[-1])
        memory = self.spaces[space][0]
        place, registers = operands if names[0] == "st" else operands[::-1]
        registers = _names(registers)
        where = self.address(place, space)[active]
        size = kind.itemsize
        if (where % (size * len(registers))).any():
            raise ValueError("an address that is not aligned")
        if where.size and not 0 <= where.min() <= where.max() + size * len(registers) <= memory.size:
            raise ValueError("an address outside of the memory")
        for number, register in enumerate(registers):
            index = (where + number * size)[:, None] + np.arange(size)
            if names[0] == "st":
                value = self.read(register, _unsigned(8 * size))[active]
                memory[index] = np.ascontiguousarray(value).view(np.uint8).reshape(-1, size)
            else:
                loaded = np.zeros(self.threads, kind)
                loaded[active] = np.ascontiguousarray(memory[index]).view(kind)[:, 0]
                self.write(register, loaded, active)

    def store_matrices(self, names, operands, active):
        """8 by 8 items of 16 bits: of each warp, 8 lanes say where a matrix's rows begin, and all hold two items."""
        if names[:4] != ["stmatrix", "sync", "aligned", "m8n8"] or names[5:] != ["shared", "b16"] or not active.all():
            raise NotImplementedError(".".join(names))
        shared = self.spaces["shared"][0]
        where = self.address(operands[0], "shared").reshape(-1, _WARP)
        lane = np.arange(_WARP)
        for number, register in enumerate(_names(operands[1])):
            rows = where[:, 8 * number + lane // 4] + 4 * (lane % 4)
            octets = self.read(register, "u4").view(np.uint8).reshape(-1, _WARP, 4)
            shared[rows[:, :, None] + np.arange(4)] = octets

    def compute(self, name, marks, kind, operands):
        if kind.startswith("f"):
            return self.compute_floats(name, marks, kind, operands)
        if name == "cvt":
            return self.convert(marks, kind, operands)
        if name in ("setp", "selp", "and", "or", "xor", "not"):
            return self.choose(name, marks, kind, operands)
        if kind.endswith("16x2") and name in ("add", "sub") and not marks:
            one, other = (self.read(text, "u4").view("u2") for text in operands)
            return (one + other if name == "add" else one - other).view("u4")
        kind = _kind_of(kind)
        if name == "mul" and marks == ["hi"]:
            if kind != "u4":
                raise NotImplementedError("mul.hi of others than u32")
            one, other = (self.read(text, kind).astype("u8") for text in operands)
            return ((one * other) >> np.uint64(32)).astype("u4")
        if name in ("mul", "mad") and marks == ["wide"]:
            wide = np.dtype(f"{kind.kind}{2 * kind.itemsize}")
            one, other = (self.read(text, kind).astype(wide) for text in operands[:2])
            return one * other + (self.read(operands[2], wide) if name == "mad" else wide.type(0))
        if name in ("mul", "mad", "add", "sub"):
            if marks not in ([], ["lo"]):
                raise NotImplementedError(".".join((name, *marks)))
            one, other, *rest = (self.read(text, _unsigned(8 * kind.itemsize)) for text in operands)
            if name in ("mul", "mad"):
                return one * other + (rest[0] if rest else one.dtype.type(0))
            return one + other if name == "add" else one - other
        if name == "mov":
            return self.read(operands[0], kind)
        if name == "neg":
            return np.negative(self.read(operands[0], kind))
        if name in ("shl", "shr"):
            value, by = self.read(operands[0], kind), self.read(operands[1], "u4")
            if (by >= 8 * kind.itemsize).any():
                raise NotImplementedError("a shift by all bits")
            return (np.left_shift if name == "shl" else np.right_shift)(value, by.astype(kind))
        if name in ("div", "rem"):
            one, other = (self.read(text, kind) for text in operands)
            if (one < 0).any() or (other <= 0).any():
                raise NotImplementedError("division of what is negative, or by 0")
            return one // other if name == "div" else one % other
        if name in ("min", "max"):
            return (np.minimum if name == "min" else np.maximum)(*(self.read(text, kind) for text in operands))
        if name == "bfe":
            value, place, length = self.read(operands[0], kind), *(self.read(text, "u4") for text in operands[1:])
            if (length == 0).any() or (place + length > 8 * kind.itemsize).any():
                raise NotImplementedError("a field beyond the register")
            up, down = (8 * kind.itemsize - place - length).astype(kind), (8 * kind.itemsize - length).astype(kind)
            return np.right_shift(np.left_shift(value, up), down)  # the sign, or zeros, before it
        if name == "prmt":
            one, other, choice = (self.read(text, "u4") for text in operands)
            octets = np.stack([one, other], axis=1).view(np.uint8)
            chosen = np.stack([(choice >> np.uint32(4 * number)) & np.uint32(15) for number in range(4)], axis=1)
            if (chosen > 7).any():
                raise NotImplementedError("prmt that copies signs")
            return np.take_along_axis(octets, chosen.astype("i8"), axis=1).view("u4")[:, 0].copy()
        raise NotImplementedError(name)

    def choose(self, name, marks, kind, operands):
        kind = _kind_of(kind)
        if name == "selp":
            return np.where(self.read(operands[2], bool), *(self.read(text, kind) for text in operands[:2]))
        values = [self.read(text, kind) for text in operands]
        if name == "setp":
            if len(marks) > 1:
                raise NotImplementedError(".".join((name, *marks)))
            return {
                "lt": np.less, "gt": np.greater, "le": np.less_equal, "ge": np.greater_equal, "eq": np.equal,
                "ne": np.not_equal,
            }[marks[0]](*values)  # fmt: skip
        return {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert}[name](*values)

    def convert(self, marks, source, operands):
        """From integers, to integers or rounded to floats."""
        if len(marks) != 1 and (len(marks) != 2 or marks[0] != "rn" or marks[1] not in ("f32", "f64")):
            raise NotImplementedError(f"cvt.{'.'.join(marks)}.{source}")
        return self.read(operands[0], _kind_of(source)).astype(_kind_of(marks[-1]))

    def compute_floats(self, name, marks, kind, operands):
        if kind == "f32x2":
            if marks != ["rn"]:
                raise NotImplementedError(f"{name} that is not .rn")
            one, other = (self.read(text, "u8").view("f4") for text in operands)
            return _ROUNDED[name](one, other).view("u8")
        if name == "cvt" and marks in (["rn", "bf16"], ["rn", "bf16x2"]) and kind == "f32":  # of two the high one first
            *high, low = (self.read(text, "f4").astype(bfloat16).view("u2") for text in operands)
            return high[0].astype("u4") << np.uint32(16) | low if high else low
        kind = _kind_of(kind)
        if name in _ROUNDED:
            if marks != ["rn"] and not (self.program.allows_fusion and not marks):
                raise NotImplementedError(f"{name} that is not .rn")
            return _ROUNDED[name](*(self.read(text, kind) for text in operands))
        if name == "fma" and self.program.allows_fusion:
            one, other, more = (self.read(text, kind).astype(np.longdouble) for text in operands)
            return (one * other + more).astype(kind)
        if name in ("selp", "setp"):
            if name == "setp" and marks[0] not in ("lt", "gt", "le", "ge", "eq"):
                return self.compare_unordered(marks, kind, operands)
            return self.choose(name, marks, f"f{8 * kind.itemsize}", operands)
        if marks:
            raise NotImplementedError(f"{name}.{'.'.join(marks)}")
        bits, sign = _unsigned(8 * kind.itemsize), 1 << (8 * kind.itemsize - 1)
        if name in ("abs", "neg"):
            value = self.read(operands[0], bits)
            return value & bits.type(sign - 1) if name == "abs" else value ^ bits.type(sign)
        if name == "mov":
            return self.read(operands[0], kind)
        if name in ("min", "max"):  # -0 is less than +0
            one, other = (self.read(text, kind) for text in operands)
            if (np.isnan(one) | np.isnan(other)).any():
                raise NotImplementedError("nan")
            is_less = (one < other) | ((one == other) & np.signbit(one))
            return np.where(is_less == (name == "min"), one, other)
        raise NotImplementedError(name)

    def compare_unordered(self, marks, kind, operands):
        one, other = (self.read(text, kind) for text in operands)
        return ~{"gtu": np.less_equal, "ltu": np.greater_equal, "geu": np.less, "leu": np.greater, "neu": np.equal}[
            marks[0]
        ](one, other)


_ROUNDED = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt}


def _names(text):
    return [name.strip() for name in text.strip("{} ").split(",")]
