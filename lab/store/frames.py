"""DuckDB's answers as pandas can hold them: a value that DuckDB has and Python has not must cost
nobody the rest of a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.scrub import visible

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

PLAIN = (
    *("tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint"),
    *("date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    "timestamp with time zone",
    *("boolean", "decimal", "float", "double", "varchar", "uuid", "enum"),
)
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""Python's years 1 to 9999, in days from 1970; DuckDB's go on to 294247, and end in two
infinities."""
UNSEEN = (
    r"[^\t\n -~\x{a0}-\x{d7ff}\x{e000}-\x{10ffff}]"
    r"|[\x{61c}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
)
"""lab.scrub's characters, for Arrow."""
TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def read(relation: duckdb.DuckDBPyRelation) -> pd.DataFrame:
    """Rows of the lab's own: a UUID is a str, a missing integer makes a column of floats, an
    instant that no calendar has is missing, and no terminal or page obeys a text (lab.scrub)."""
    import pyarrow as pa
    import pyarrow.compute as compute

    table = relation.to_arrow_table()
    for place, (field, kind) in enumerate(zip(table.schema, relation.types, strict=True)):
        column = table.column(place)
        if (odd := _beyond(column)) is not None:
            column = compute.if_else(odd, pa.scalar(None, field.type), column)
        elif (
            pa.types.is_string(field.type)
            and kind != "UUID"
            and compute.any(compute.match_substring_regex(column, UNSEEN)).as_py()
        ):
            texts = [text and visible(text) for text in column.to_pylist()]
            column = pa.chunked_array([texts], field.type)
        else:
            continue
        table = table.set_column(place, field, column)
    return table.to_pandas()


def shown(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> pa.Table:
    """Rows of any query: what pandas has no column for (a union, a list, an interval, the year
    20000) is text, as DuckDB writes it."""
    import pyarrow as pa

    kinds = [str(kind.id).lower() for kind in relation.types]
    columns = _columns(relation.columns, [kind not in PLAIN for kind in kinds])
    table = relation.project(columns).to_arrow_table()
    as_text = [_beyond(column) is not None for column in table.columns]
    for place, kind in enumerate(kinds):
        if kind == "hugeint":  # every sum of whole numbers is one
            try:
                column = table.column(place).cast(pa.int64())
                table = table.set_column(place, table.schema.names[place], column)
            except pa.ArrowInvalid:
                as_text[place] = True
    if not any(as_text):
        return table
    columns = _columns(table.schema.names, as_text)
    return connection.from_arrow(table).project(columns).to_arrow_table()


def _columns(names: list[str], as_text: list[bool]) -> str:
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    return ", ".join(
        f"{name}::VARCHAR AS {name}" if text else name
        for name, text in zip(quoted, as_text, strict=True)
    )


def _beyond(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Which instants of a column Python's calendar has not; None where it has them all."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if pa.types.is_date32(column.type):
        ticks, whole = 1, column.cast(pa.int32())
    elif pa.types.is_timestamp(column.type):
        ticks, whole = 86_400 * TICKS[column.type.unit], column.cast(pa.int64())
    else:
        return None
    low, high = FIRST_DAY * ticks, (LAST_DAY + 1) * ticks - 1
    if column.type == pa.timestamp("ns", getattr(column.type, "tz", None)):
        return None  # 64 bits of nanoseconds end in 2262
    odd = compute.or_(compute.less(whole, low), compute.greater(whole, high))
    return odd if compute.any(odd).as_py() else None
