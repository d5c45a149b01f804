"""Queries through the ADBC Flight SQL driver: rows, types, schemas, parameters, many rows, several at once."""

import datetime
import decimal
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from adbc_driver_flightsql import dbapi

import flight


def rows(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    return cursor.fetchall()


def test_select(cursor):
    assert rows(cursor, "select 1 as one, 'two' as two, null as three") == [(1, "two", None)]
    assert [column[0] for column in cursor.description] == ["one", "two", "three"]


def test_cursor_is_used_again(cursor):
    for number in range(5):
        assert rows(cursor, f"select {number}") == [(number,)]


def test_fetch_one_and_many(cursor):
    cursor.execute("select value from generate_series(1, 10) order by value")
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany(3) == [(2,), (3,), (4,)]
    assert len(cursor.fetchall()) == 6
    assert cursor.fetchone() is None


def test_text_of_every_kind(cursor):
    text = "화차 'quoted' \"double\" \\ line\nbreak \U0001f525"
    quoted = text.replace("'", "''")
    assert rows(cursor, f"select '{quoted}', '', length('화차')") == [(text, "", 2)]


def test_types(cursor):
    cursor.execute(
        """select cast(1 as tinyint) as i8, cast(2 as int) as i32, 3 as i64, cast(1.5 as real) as f32, 2.5 as f64,
        true as b, 'text' as s, cast(1.23 as decimal(10, 2)) as n, date '2024-02-29' as d,
        timestamp '2024-01-02 03:04:05.678' as t, [1, null, 3] as l, named_struct('x', 1, 'y', 'z') as st,
        arrow_cast('bytes', 'Binary') as bin, null as nothing"""
    )
    table = cursor.fetch_arrow_table()
    assert table.to_pylist() == [
        {
            "i8": 1, "i32": 2, "i64": 3, "f32": 1.5, "f64": 2.5, "b": True, "s": "text", "n": decimal.Decimal("1.23"),
            "d": datetime.date(2024, 2, 29), "t": datetime.datetime(2024, 1, 2, 3, 4, 5, 678000), "l": [1, None, 3],
            "st": {"x": 1, "y": "z"}, "bin": b"bytes", "nothing": None,
        }
    ]
    types = {field.name: field.type for field in table.schema}
    assert types["i8"] == pa.int8() and types["i32"] == pa.int32() and types["i64"] == pa.int64()
    assert types["f32"] == pa.float32() and types["n"] == pa.decimal128(10, 2) and types["d"] == pa.date32()
    assert pa.types.is_timestamp(types["t"]) and types["t"].tz is None


def test_no_view_types_reach_clients(cursor, name):
    cursor.execute(f"create table {name} as select 'a' as s, ['b'] as l, named_struct('c', 'd') as st, x'00' as b")
    cursor.execute(f"select s, l, st, b, s || 'x' as computed, arrow_cast(s, 'Utf8View') as v from {name}")
    table = cursor.fetch_arrow_table()
    assert "view" not in str(table.schema).lower()
    assert table.to_pylist()[0] == {"s": "a", "l": ["b"], "st": {"c": "d"}, "b": b"\0", "computed": "ax", "v": "a"}


def test_dictionaries_arrive_as_their_values(cursor):
    sql = "select arrow_cast(s, 'Dictionary(Int32, Utf8)') as s from (values ('a'), ('b'), ('a'), (null)) t(s)"
    assert sorted(rows(cursor, sql), key=str) == [("a",), ("a",), ("b",), (None,)]


def test_many_rows(cursor):
    cursor.execute("select value as n, value * 2 as m from generate_series(1, 1000000)")
    table = cursor.fetch_arrow_table()
    assert table.num_rows == 1_000_000
    assert pc.sum(table["n"]).as_py() == 500_000_500_000
    assert pc.sum(table["m"]).as_py() == 1_000_001_000_000


def test_wide_rows_fit_into_messages(cursor):
    cursor.execute("select repeat('x', 1024) as s from generate_series(1, 50000)")
    table = cursor.fetch_arrow_table()
    assert table.num_rows == 50_000
    assert pc.sum(pc.utf8_length(table["s"])).as_py() == 50_000 * 1024


def test_one_very_long_value(cursor):
    assert len(rows(cursor, "select repeat('y', 3000000)")[0][0]) == 3_000_000


def test_empty_result_has_its_schema(cursor):
    cursor.execute("select 1 as a, 'x' as b, [1.5] as c where false")
    table = cursor.fetch_arrow_table()
    assert table.num_rows == 0
    assert table.schema.names == ["a", "b", "c"]
    assert table.schema.field("a").type == pa.int64()


def test_counts_without_columns(cursor, name):
    cursor.execute(f"create table {name} as select value as n from generate_series(1, 1000)")
    assert rows(cursor, f"select count(*) from {name}") == [(1000,)]
    assert rows(cursor, f"select count(*) from {name} where n > 900") == [(100,)]
    assert rows(cursor, f"select count(*) from {name} where n > 9000") == [(0,)]
    assert rows(cursor, f"select min(n), max(n), sum(n) from {name}") == [(1, 1000, 500500)]


SAME_SCHEMA = [
    "select 1 as a",
    "select count(*) from {t}",
    "select min(n), max(s), avg(n) from {t}",
    "select * from {t}",
    "select n, s from {t} where n < 0",
    "select s, count(*) from {t} group by s",
    "select a.n, b.s from {t} a left join {t} b on a.n = b.n + 1",
    "select row_number() over (order by n) from {t}",
    "select n from {t} union all select null",
    "select n, s from {t} order by n desc limit 3",
    "select [n], named_struct('k', s) from {t}",
    "values (1, 'a'), (2, null)",
    "select 1 where false",
    "show tables",
    "describe {t}",
    "explain select n from {t}",
]


@pytest.mark.parametrize("sql", SAME_SCHEMA)
def test_announced_schema_is_the_streams(cluster, cursor, name, sql):
    cursor.execute(f"create table {name} as select value as n, concat('s', value % 3) as s from generate_series(1, 100)")
    with flight.client(cluster) as client:
        info = client.get_flight_info(flight.statement(sql.format(t=name)))
        assert len(info.endpoints) == 1
        reader = client.do_get(info.endpoints[0].ticket)
        assert info.schema.equals(reader.schema, check_metadata=True)
        table = reader.read_all()
        assert info.schema.equals(table.schema)


def test_prepared_statement_runs_again(cursor):
    sql = "select count(*) from generate_series(1, 10)"
    cursor.adbc_prepare(sql)
    assert rows(cursor, sql) == [(10,)]
    assert rows(cursor, sql) == [(10,)]


def test_parameters_by_number(cursor):
    sql = "select value from generate_series(1, 10) where value = $1 or value = $2 order by value"
    assert rows(cursor, sql, (3, 7)) == [(3,), (7,)]
    assert rows(cursor, sql, (1, 1)) == [(1,)]


def test_parameters_by_question_mark(cursor):
    sql = "select value from generate_series(1, 10) where value > ? and value < ? order by value"
    assert rows(cursor, sql, (3, 6)) == [(4,), (5,)]


TEXTS = [("select ?, 'a'' || ''b'", "a' || 'b"), ("select\n ?, 'it''s' -- why?\n", "it's"), ("select ?, 'ü?' /* ? */", "ü?")]


@pytest.mark.parametrize(("sql", "text"), TEXTS)
def test_texts_beside_question_marks_stay_as_they_are(cursor, sql, text):
    assert rows(cursor, sql, (1,)) == [(1, text)]


def test_parameters_of_one_instant_keep_their_time_zones(cursor):
    for zone, hour in [("UTC", 0), ("Asia/Seoul", 9), (None, 0)]:
        instant = pa.array([1704067200000000], pa.timestamp("us", zone))
        cursor.execute("select date_part('hour', $1)", pa.record_batch([instant], ["$1"]))
        assert cursor.fetchall() == [(hour,)], zone


@pytest.mark.parametrize("end", ["where 1 = 0", "limit 0"])
def test_columns_are_those_of_the_file_though_nothing_is_read(cursor, tmp_path, end):
    path = tmp_path / "f.parquet"
    for column in ["b", "changed"]:
        pq.write_table(pa.table({"a": [1], column: [2]}), path)
        cursor.execute(f"select * from '{path}' {end}")
        assert [name for name, *_ in cursor.description] == ["a", column]


def test_parameters_of_several_types(cursor):
    sql = "select s from (values ('a', 1.5, true), ('b', 2.5, false), (null, 3.5, true)) t(s, x, f) where {}"
    assert rows(cursor, sql.format("s = $1"), ("b",)) == [("b",)]
    assert rows(cursor, sql.format("x > $1 and f = $2"), (1.0, True)) == [("a",), (None,)]
    assert rows(cursor, sql.format("s = $1"), (None,)) == []


def test_parameters_are_values_and_not_text(cursor):
    assert rows(cursor, "select count(*) from (values ('a')) t(s) where s = $1", ("x' or '1' = '1",)) == [(0,)]


def test_several_queries_at_once(cluster):
    def one(number):
        with dbapi.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
            return rows(cursor, f"select sum(value) + {number} from generate_series(1, 100000)")[0][0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [5_000_050_000 + number for number in range(24)]


def test_several_cursors_of_one_connection(connection):
    with connection.cursor() as first, connection.cursor() as second:
        first.execute("select value from generate_series(1, 200000)")
        second.execute("select 'other'")
        assert second.fetchall() == [("other",)]
        assert len(first.fetchall()) == 200_000
