"""Values of every type, alone and within other types, reach clients with the announced schema."""

import pyarrow as pa
import pytest

import flight

# A value for each type. Values of other types are casts of 1.
VALUES = {
    "Null": "null", "Boolean": "true", "Utf8": "'x'", "LargeUtf8": "'x'", "Utf8View": "'x'", "Binary": "'x'",
    "LargeBinary": "'x'", "BinaryView": "'x'", "FixedSizeBinary(1)": "arrow_cast('x', 'Binary')",
    "Date32": "date '2024-01-01'", "Date64": "date '2024-01-01'", "Interval(MonthDayNano)": "interval '1 day'",
    "Time32(Second)": "time '01:02:03'", "Time64(Nanosecond)": "time '01:02:03'",
}
NUMBERS = [
    "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float16", "Float32", "Float64",
    "Decimal32(9, 2)", "Decimal64(18, 2)", "Decimal128(38, 10)", "Decimal256(76, 0)", "Duration(Second)",
    "Duration(Nanosecond)", "Timestamp(Second, None)", 'Timestamp(Nanosecond, Some("Europe/Berlin"))',
]
# Arrow cannot cast values of these types to dictionaries.
WITHOUT_DICTIONARY = {"Null", "Boolean", "Duration(Second)", "Duration(Nanosecond)", "Interval(MonthDayNano)"}


def forms(data_type):
    """A value of the type, and a value of each container of the type."""
    value = f"arrow_cast({VALUES.get(data_type, '1')}, '{data_type}')"
    yield value
    yield f"[{value}]"
    for container in ["LargeList({})", "FixedSizeList(1, {})", "ListView({})", "LargeListView({})"]:
        yield f"arrow_cast([{value}], '{container.format(data_type)}')"
        yield f"named_struct('n', 1, 'a', arrow_cast([{value}], '{container.format(data_type)}'))"
        yield f"[arrow_cast([{value}], '{container.format(data_type)}')]"
    yield f"named_struct('a', {value})"
    yield f"map(['k'], [{value}])"
    if data_type not in WITHOUT_DICTIONARY:
        yield f"arrow_cast({value}, 'Dictionary(Int8, {data_type})')"
        yield f"named_struct('d', arrow_cast({value}, 'Dictionary(Int32, {data_type})'))"
        yield f"[arrow_cast({value}, 'Dictionary(Int32, {data_type})')]"
    if data_type != "Null":
        yield f"""arrow_cast({value}, 'RunEndEncoded("run_ends": non-null Int32, "values": {data_type})')"""


def read(cluster, sql):
    """The announced schema, and the rows that arrive."""
    with flight.client(cluster) as client:
        info = client.get_flight_info(flight.statement(sql))
        return info.schema, client.do_get(info.endpoints[0].ticket).read_all()


@pytest.mark.parametrize("data_type", [*VALUES, *NUMBERS])
def test_rows_have_the_schema_that_was_announced(cluster, cursor, data_type):
    columns = ", ".join(f"{form} as c{number}" for number, form in enumerate(forms(data_type)))
    sql = f"select {columns}"
    announced, table = read(cluster, sql)
    assert table.schema.equals(announced, check_metadata=True)
    assert table.num_rows == 1
    # The driver also compares both schemas.
    cursor.execute(sql)
    assert cursor.fetch_arrow_table().schema.names == announced.names


def test_large_lists_of_a_table(cursor, name):
    lists = "arrow_cast([value, value + 1], 'LargeList(Int64)')"
    cursor.execute(f"create table {name} as select value as n, {lists} as l from generate_series(0, 99)")
    cursor.execute(f"select n, l from {name} where n < 2 order by n")
    table = cursor.fetch_arrow_table()
    assert table.schema.field("l").type == pa.large_list(pa.int64())
    assert table.column("l").to_pylist() == [[0, 1], [1, 2]]
    cursor.execute(f"select l, count(*) as c from {name} where n < 1 group by l")
    assert cursor.fetchall() == [([0, 1], 1)]


def test_metadata_of_columns_arrives(cluster):
    announced, table = read(cluster, "select with_metadata(1, 'unit', 'ms') as x")
    assert table.schema.equals(announced, check_metadata=True)
    assert announced.field("x").metadata == {b"unit": b"ms"}


def test_rows_of_unequal_size_fit_into_messages(cursor, name):
    # Twenty rows of 2 MiB come first. A cut by row count alone would put all twenty into one message.
    cursor.execute(
        f"create table {name} as select value as n, case when value < 20 then repeat('x', 2097152) else 'y' end as s"
        " from generate_series(0, 4999)"
    )
    cursor.execute(f"select n, s from {name} order by n")
    lengths = [len(text) for text in cursor.fetch_arrow_table().column("s").to_pylist()]
    assert lengths == [2097152] * 20 + [1] * 4980


def test_dictionaries_of_dictionaries_are_exchanged(cursor, name):
    words = "select value % 3 as g, cast(value as varchar) as s from generate_series(0, 99)"
    cursor.execute(f"create table {name} as {words}")
    twofold = "arrow_cast(arrow_cast(s, 'Dictionary(Int32, Utf8)'), 'Dictionary(Int32, Dictionary(Int32, Utf8))')"
    cursor.execute(f"select d, g from (select {twofold} as d, g from {name}) order by g, cast(d as varchar) limit 2")
    assert cursor.fetchall() == [("0", 0), ("12", 0)]
    cursor.execute(f"select named_struct('d', {twofold}) as st from {name} order by cast(s as int) limit 2")
    assert cursor.fetchall() == [({"d": "0"},), ({"d": "1"},)]
