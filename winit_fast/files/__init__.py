"""Tables larger than memory: written to files in bounded memory, by many workers in any order, resumed, verified."""
