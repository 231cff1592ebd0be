"""Row filters such as `yaw > 30 and view_yaw <= 0`: parsed to a pyarrow expression, never evaluated as code.

Grammar (keywords in any case):

    filter      := all_of ("or" all_of)*
    all_of      := term ("and" term)*
    term        := "not" term | "(" filter ")" | comparison
    comparison  := operand (op operand)+            # 10 < yaw <= 30 reads as in mathematics
                 | operand ["not"] "in" "(" literal ("," literal)* ")"
                 | operand "is" ["not"] "null"
                 | boolean column
    operand     := column | "abs" "(" column ")" | literal
    op          := "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">="
    literal     := number | 'text' | "text" | "true" | "false"      # a quote inside text is doubled

A column is written bare (`fit_error`) or, when its name has other characters, between backticks. A comparison with a
missing value is neither true nor false: such a row is left out, also under `not`.
"""

import contextlib
import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from cfr.pipeline.errors import UserError

# Deeper or longer filters than anyone writes by hand would overflow the recursion of this parser or of Arrow.
MAX_DEPTH = 50
MAX_COMPARISONS = 500

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<quoted>`[^`]+`)
      | (?P<name>[^\W\d][\w.]*)
      | (?P<symbol><=|>=|==|!=|<>|[=<>()\[\],])""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_COMPARE: dict[str, Callable] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class _Token:
    kind: str  # number, text, column, keyword, symbol or end
    value: str
    start: int


@dataclass(frozen=True)
class _Operand:
    expression: pc.Expression
    kind: str  # number, text, boolean
    start: int
    value: object = None  # of a literal
    column: str | None = None
    type: pa.DataType | None = None


def parse_where(text: str, schema: pa.Schema) -> pc.Expression:
    """Parse a filter over the columns of `schema`.

    Args:
        text: the filter, as in the grammar of this module.
        schema: of the rows; number, text and boolean columns can be compared.

    Returns:
        An expression for `pyarrow.Table.filter` and `pyarrow.dataset`.

    Raises:
        UserError: its detail has a caret under the place that is wrong, and the known columns where that helps.
    """
    return _Parser(text, schema).parse()


def comparable_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns that a filter or a sort can use, in the schema's order."""
    return [field.name for field in schema if _kind(field.type) is not None]


def _kind(type_: pa.DataType) -> str | None:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "number"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    return None


class _Parser:
    """Recursive descent; one method per line of the grammar."""

    def __init__(self, text: str, schema: pa.Schema):
        self.text = text
        self.schema = schema
        self.tokens = self._tokenise()
        self.position = 0
        self.depth = 0
        self.comparisons = 0

    def parse(self) -> pc.Expression:
        if self._peek().kind == "end":
            raise UserError('--where is empty; write a comparison such as --where "yaw > 30"')
        expression = self._filter()
        token = self._peek()
        if token.kind != "end":
            raise self._error(f"expected `and`, `or` or the end, found {_show(token)}", token.start)
        return expression

    def _filter(self) -> pc.Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep", self._peek().start)
        terms = [self._all_of()]
        while self._take("keyword", "or"):
            terms.append(self._all_of())
        self.depth -= 1
        return reduce(operator.or_, terms)

    def _all_of(self) -> pc.Expression:
        terms = [self._term()]
        while self._take("keyword", "and"):
            terms.append(self._term())
        return reduce(operator.and_, terms)

    def _term(self) -> pc.Expression:
        negate = False
        while self._take("keyword", "not"):
            negate = not negate
        opening = self._take("symbol", "(")
        if opening:
            expression = self._filter()
            if not self._take("symbol", ")"):
                raise self._error("this parenthesis is never closed", opening.start)
        else:
            expression = self._comparison()
        return ~expression if negate else expression

    def _comparison(self) -> pc.Expression:
        self.comparisons += 1
        if self.comparisons > MAX_COMPARISONS:
            raise self._error(f"more than {MAX_COMPARISONS} comparisons (use `in`)", self._peek().start)
        left = self._operand()
        if self._take("keyword", "is"):
            negate = self._take("keyword", "not")
            if not self._take("keyword", "null"):
                raise self._error("expected `null` after `is`", self._peek().start)
            return left.expression.is_valid() if negate else left.expression.is_null()
        negate = self._take("keyword", "not")
        if self._take("keyword", "in"):
            member = self._membership(left)
            return ~member if negate else member
        if negate:
            raise self._error("expected `in` after `not` here", self._peek().start)
        parts = []
        while self._peek().kind == "symbol" and self._peek().value in _COMPARE:
            sign = self._next()
            right = self._operand()
            parts.append(self._compare(left, sign, right))
            left = right
        if parts:
            return reduce(operator.and_, parts)
        if left.kind == "boolean" and left.column is not None:
            return left.expression
        token = self._peek()
        raise self._error(f"expected a comparison such as `> 30`, found {_show(token)}", token.start)

    def _compare(self, left: _Operand, sign: _Token, right: _Operand) -> pc.Expression:
        if left.column is None and right.column is None:
            raise self._error("compares two constants; one side must be a column", left.start)
        if left.kind != right.kind:
            column, other = (left, right) if left.column is not None else (right, left)
            raise self._error(
                f"column `{column.column}` holds {column.kind}s and cannot be compared with a {other.kind}", other.start
            )
        if left.kind == "boolean" and sign.value not in ("=", "==", "!=", "<>"):
            raise self._error("booleans have no order; use = or !=", sign.start)
        return _COMPARE[sign.value](_beside(left, right), _beside(right, left))

    def _membership(self, left: _Operand) -> pc.Expression:
        if left.column is None:
            raise self._error("`in` needs a column on its left", left.start)
        opening = self._take("symbol", "(") or self._take("symbol", "[")
        if not opening:
            raise self._error("expected a list such as (1, 2) after `in`", self._peek().start)
        closing = ")" if opening.value == "(" else "]"
        values = []
        while not self._take("symbol", closing):
            if values and not self._take("symbol", ","):
                raise self._error(f"expected `,` or `{closing}`", self._peek().start)
            item = self._operand()
            if item.column is not None:
                raise self._error("a list holds constants, not columns", item.start)
            if item.kind != left.kind:
                raise self._error(
                    f"column `{left.column}` holds {left.kind}s and cannot be compared with a {item.kind}", item.start
                )
            values.append(item.value)
        if left.kind == "number":
            # Arrow compares a set exactly, so 0.1 has to become the column's own 0.1.
            return left.expression.isin(_values_of_type(values, left.type))
        return left.expression.isin(values)

    def _operand(self) -> _Operand:
        token = self._next()
        if token.kind == "number":
            value = float(token.value) if re.search(r"[.eE]", token.value) else int(token.value)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                value = float(value)
            return _Operand(pc.scalar(value), "number", token.start, value)
        if token.kind == "text":
            quote = token.value[0]
            value = token.value[1:-1].replace(quote * 2, quote)
            return _Operand(pc.scalar(value), "text", token.start, value)
        if token.kind == "keyword" and token.value in ("true", "false"):
            value = token.value == "true"
            return _Operand(pc.scalar(value), "boolean", token.start, value)
        if token.kind == "column":
            if self._peek().value == "(" and token.value.lower() == "abs" and self._peek().kind == "symbol":
                return self._absolute()
            return self._column(token)
        if token.kind == "keyword" and token.value == "null":
            raise self._error("write `column is null` or `column is not null`", token.start)
        raise self._error(f"expected a column or a constant, found {_show(token)}", token.start)

    def _absolute(self) -> _Operand:
        self._next()
        inner = self._next()
        if inner.kind != "column":
            raise self._error(f"abs() takes a column, found {_show(inner)}", inner.start)
        column = self._column(inner)
        if column.kind != "number":
            raise self._error(f"abs() takes a column of numbers; `{column.column}` holds {column.kind}s", inner.start)
        if not self._take("symbol", ")"):
            raise self._error("expected `)`", self._peek().start)
        return _Operand(pc.abs(column.expression), "number", inner.start, None, column.column, column.type)

    def _column(self, token: _Token) -> _Operand:
        indices = self.schema.get_all_field_indices(token.value)
        if len(indices) != 1:
            raise self._unknown_column(token)
        type_ = self.schema.field(indices[0]).type
        kind = _kind(type_)
        if kind is None:
            raise self._error(f"column `{token.value}` ({type_}) cannot be compared", token.start, columns=True)
        return _Operand(pc.field(token.value), kind, token.start, None, token.value, type_)

    def _unknown_column(self, token: _Token) -> UserError:
        known = comparable_columns(self.schema)
        close = difflib.get_close_matches(token.value, known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else "; text goes between quotes: 'like this'"
        return self._error(f"unknown column `{token.value}`{hint}", token.start, columns=True)

    def _error(self, message: str, position: int, columns: bool = False) -> UserError:
        # A window of one line, so that the caret lies under the right character whatever was typed.
        first = max(0, position - 60)
        line = re.sub(r"\s", " ", self.text[first : position + 40])
        detail = f"  {line}\n  {' ' * (position - first)}^"
        if columns:
            detail += "\nknown columns: " + ", ".join(comparable_columns(self.schema))
        return UserError(f"--where: {message}", detail)

    def _tokenise(self) -> list[_Token]:
        tokens, position = [], 0
        while position < len(self.text):
            match = _TOKEN.match(self.text, position)
            if not match:
                rest = self.text[position]
                problem = "this quote is never closed" if rest in "'\"`" else f"cannot read {rest!r}"
                raise self._error(problem, position)
            kind, value = match.lastgroup, match.group()
            if kind == "name":
                kind = "keyword" if value.lower() in _KEYWORDS else "column"
                value = value.lower() if kind == "keyword" else value
            elif kind == "quoted":
                kind, value = "column", value[1:-1]
            if kind != "space":
                tokens.append(_Token(kind, value, position))
            position = match.end()
        tokens.append(_Token("end", "", len(self.text)))
        return tokens

    def _peek(self) -> _Token:
        return self.tokens[min(self.position, len(self.tokens) - 1)]

    def _next(self) -> _Token:
        token = self._peek()
        self.position += 1
        return token

    def _take(self, kind: str, value: str) -> _Token | None:
        token = self._peek()
        return self._next() if (token.kind, token.value) == (kind, value) else None


def _values_of_type(values: list, type_: pa.DataType) -> pa.Array:
    """The numbers as `type_`, without those that no value of an integer `type_` can equal."""
    if not pa.types.is_integer(type_):
        return pa.array(values, pa.float64()).cast(type_, safe=False)
    fitting = []
    for value in values:
        if value == int(value):
            with contextlib.suppress(OverflowError, pa.ArrowInvalid):
                fitting.append(pa.scalar(int(value), type_).as_py())
    return pa.array(fitting, type_)


def _beside(operand: _Operand, other: _Operand) -> pc.Expression:
    """The operand as it is compared: a constant beside a float32 column becomes a float32, so that 0.1 equals 0.1."""
    if operand.column is None and other.type is not None and pa.types.is_floating(other.type):
        return pc.scalar(pa.scalar(float(operand.value), pa.float64()).cast(other.type, safe=False))
    return operand.expression


def _show(token: _Token) -> str:
    return "the end" if token.kind == "end" else f"`{token.value}`"
