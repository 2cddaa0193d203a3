"""DuckDB's answers as pandas can hold them: a value that DuckDB has and Python has not must cost nobody the rest of a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

PLAIN = frozenset(
    """boolean tinyint smallint integer bigint utinyint usmallint uinteger ubigint hugeint decimal float double varchar uuid enum
    date timestamp timestamp_s timestamp_ms timestamp_ns""".split()
) | {"timestamp with time zone"}
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""Python's years 1 to 9999, in days from 1970; DuckDB's go on to 294247, and end in two infinities."""
TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def read(relation: duckdb.DuckDBPyRelation) -> pd.DataFrame:
    """Rows of the lab's own: a UUID is a str, a missing integer makes a column of floats, an instant that no calendar has is missing."""
    import pyarrow as pa
    import pyarrow.compute as compute

    table = relation.to_arrow_table()
    for place, field in enumerate(table.schema):
        if (odd := _beyond(table.column(place))) is not None:
            table = table.set_column(place, field, compute.if_else(odd, pa.scalar(None, field.type), table.column(place)))
    return table.to_pandas()


def shown(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> pa.Table:
    """Rows of any query: what pandas has no column for (a union, a list, an interval, the year 20000) is text, as DuckDB writes it."""
    import pyarrow as pa

    kinds = [str(kind.id).lower() for kind in relation.types]
    table = relation.project(_columns(relation.columns, [kind not in PLAIN for kind in kinds])).to_arrow_table()
    as_text = [_beyond(column) is not None for column in table.columns]
    for place, kind in enumerate(kinds):
        if kind == "hugeint":  # every sum of whole numbers is one
            try:
                table = table.set_column(place, table.schema.names[place], table.column(place).cast(pa.int64()))
            except pa.ArrowInvalid:
                as_text[place] = True
    return connection.from_arrow(table).project(_columns(table.schema.names, as_text)).to_arrow_table() if any(as_text) else table


def _columns(names: list[str], as_text: list[bool]) -> str:
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    return ", ".join(f"{name}::VARCHAR AS {name}" if text else name for name, text in zip(quoted, as_text, strict=True))


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
