"""Statements that change the server or ask about it: DDL, scripts, settings, metadata. Errors, and early closing."""

import time

import adbc_driver_manager
import pytest
from adbc_driver_flightsql import DatabaseOptions, dbapi

Status = adbc_driver_manager.AdbcStatusCode


def one(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def run_and_close(connection, sql):
    """Runs a statement and closes the cursor without fetching rows, as many tools do."""
    cursor = connection.cursor()
    cursor.execute(sql)
    cursor.close()


def test_view_is_there_though_nothing_was_fetched(connect, name):
    run_and_close(connect(), f"create view {name} as select 42 as n")
    assert one(connect(), f"select n from {name}") == [(42,)]


def test_table_is_there_though_nothing_was_fetched(connect, name):
    run_and_close(connect(), f"create table {name} as select value as n from generate_series(1, 1000)")
    assert one(connect(), f"select count(*), sum(n) from {name}") == [(1000, 500500)]
    run_and_close(connect(), f"drop table {name}")
    with pytest.raises(dbapi.Error):
        one(connect(), f"select * from {name}")


def test_ddl_runs_once(connection, name):
    run_and_close(connection, f"create table {name} as select 1 as n")
    with pytest.raises(dbapi.Error, match=f"(?i){name}.*already exists"):
        run_and_close(connection, f"create table {name} as select 2 as n")
    assert one(connection, f"select n from {name}") == [(1,)]
    run_and_close(connection, f"create or replace table {name} as select 3 as n")
    assert one(connection, f"select n from {name}") == [(3,)]


def test_script_of_several_statements(connection, name):
    with connection.cursor() as cursor:
        cursor.executescript(
            f"create view {name}_a as select 1 as n; create view {name}_b as select n + 1 as n from {name}_a;\n"
            f"create table {name}_c as select * from {name}_b; -- a comment; with a semicolon\n"
        )
    assert one(connection, f"select n from {name}_c") == [(2,)]


def test_script_stops_at_its_first_error(connection, name):
    with connection.cursor() as cursor, pytest.raises(dbapi.Error):
        cursor.executescript(f"create view {name}_a as select 1; select nothing_like_it; create view {name}_b as select 2")
    assert len(one(connection, f"select * from {name}_a")) == 1
    with pytest.raises(dbapi.Error):
        one(connection, f"select * from {name}_b")


SETTING = "datafusion.execution.batch_size"
SESSIONS = {
    "token": {"username": "somebody", "password": ""},
    "cookie": {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"},
}


@pytest.mark.parametrize("kind", SESSIONS)
def test_settings_belong_to_the_session(connect, kind):
    first, second = connect(**SESSIONS[kind]), connect(**SESSIONS[kind])
    run_and_close(first, f"set {SETTING} = 1234")
    assert one(first, f"show {SETTING}")[0][-1] == "1234"
    assert one(second, f"show {SETTING}")[0][-1] != "1234"
    run_and_close(first, f"reset {SETTING}")
    assert one(first, f"show {SETTING}")[0][-1] != "1234"


def test_settings_without_a_default_are_reset_too(connect):
    texts = []
    for statements in [[], ["set time zone = '+09:00'", "reset timezone"]]:
        session = connect(**SESSIONS["cookie"])
        for statement in statements:
            run_and_close(session, statement)
        texts.append(one(session, "select cast(timestamptz '2024-01-01T00:00:00Z' as varchar)"))
    assert texts[0] == texts[1]


def test_get_objects(connection, name):
    run_and_close(connection, f"create table {name} as select 1 as id, 'x' as label")
    run_and_close(connection, f"create view {name}_v as select id from {name}")
    objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    schemas = [schema for catalog in objects for schema in catalog["catalog_db_schemas"] or []]
    tables = {table["table_name"]: table for schema in schemas for table in schema["db_schema_tables"] or []}
    assert [column["column_name"] for column in tables[name]["table_columns"]] == ["id", "label"]
    assert "view" in tables[f"{name}_v"]["table_type"].lower()


@pytest.mark.parametrize("depth", ["catalogs", "db_schemas", "tables", "all"])
def test_get_objects_at_every_depth(connection, depth):
    assert connection.adbc_get_objects(depth=depth).read_all().num_rows >= 1


def test_get_objects_by_name(connection, name):
    run_and_close(connection, f"create table {name} as select 1 as id")
    found = connection.adbc_get_objects(depth="tables", table_name_filter=name).read_all().to_pylist()
    schemas = [schema for catalog in found for schema in catalog["catalog_db_schemas"] or []]
    names = [table["table_name"] for schema in schemas for table in schema["db_schema_tables"] or []]
    assert names == [name]


def test_get_table_schema(connection, name):
    run_and_close(connection, f"create table {name} as select 1 as id, 'x' as label, date '2024-01-01' as day")
    schema = connection.adbc_get_table_schema(name)
    assert schema.names == ["id", "label", "day"]
    assert str(schema.field("id").type) == "int64" and str(schema.field("label").type) == "string"
    with pytest.raises(dbapi.Error):
        connection.adbc_get_table_schema(f"{name}_missing")


def test_table_types(connection):
    kinds = [kind.lower() for kind in connection.adbc_get_table_types()]
    assert any("table" in kind for kind in kinds) and any("view" in kind for kind in kinds)


REFUSED = {
    "select * from no_such_table": ({Status.NOT_FOUND, Status.INVALID_ARGUMENT}, "no_such_table"),
    "select no_such_column from (values (1)) t(a)": ({Status.INVALID_ARGUMENT, Status.NOT_FOUND}, "no_such_column"),
    "selec 1": ({Status.INVALID_ARGUMENT}, "(?i)selec|expected"),
    "select 1 +": ({Status.INVALID_ARGUMENT}, "(?i)expected"),
    "select 1 / (value - value) from generate_series(1, 10)": ({Status.INVALID_ARGUMENT, Status.INVALID_DATA}, "(?i)divide by zero"),
    "select cast(concat('a', value) as int) from generate_series(1, 10)": ({Status.INVALID_ARGUMENT, Status.INVALID_DATA}, "(?i)cast"),
    "drop table no_such_table": ({Status.NOT_FOUND, Status.INVALID_ARGUMENT}, "no_such_table"),
    "set hwacha.no_such_setting = 1": ({Status.NOT_FOUND, Status.INVALID_ARGUMENT}, "no_such_setting|hwacha"),
}


@pytest.mark.parametrize("sql", REFUSED)
def test_errors_have_their_status_and_message(connection, sql):
    statuses, message = REFUSED[sql]
    with pytest.raises(dbapi.Error, match=message) as raised:
        one(connection, sql)
    assert raised.value.status_code in statuses
    assert one(connection, "select 'still here'") == [("still here",)]


def test_errors_in_a_task_are_said_once(connection, name):
    run_and_close(connection, f"create table {name} as select value as n from generate_series(0, 100000)")
    with pytest.raises(dbapi.Error) as raised:
        one(connection, f"select sum(10 / n), n % 7 from {name} group by n % 7")
    text = str(raised.value)
    assert text.lower().count("divide by zero") == 1
    assert "External" not in text and "Internal" not in text


DEEP = {
    "nested parentheses": "select " + "(" * 5000 + "1" + ")" * 5000,
    "a chain of additions": "select " + " + ".join(["1"] * 10_000),
    "a chain of disjunctions": "select 1 where " + " or ".join(f"1 = {n}" for n in range(10_000)),
    "a chain of conjunctions": "select 1 where " + " and ".join("1 = 1" for _ in range(10_000)),
}


@pytest.mark.parametrize("shape", DEEP)
def test_deep_queries_do_not_end_the_server(connection, shape):
    try:
        one(connection, DEEP[shape])
    except dbapi.Error as error:
        assert error.status_code == Status.INVALID_ARGUMENT
    assert one(connection, "select 'still here'") == [("still here",)]


def test_closing_early_frees_the_server(connect):
    for _ in range(3):
        connection = connect()
        cursor = connection.cursor()
        cursor.execute("select a.value, b.value, repeat('x', 100) from generate_series(1, 100000) a, generate_series(1, 100000) b")
        reader = cursor.fetch_record_batch()
        assert next(reader).num_rows > 0
        reader.close()
        cursor.close()
        connection.close()
    start = time.monotonic()
    assert one(connect(), "select count(*) from generate_series(1, 1000)") == [(1000,)]
    assert time.monotonic() - start < 10
