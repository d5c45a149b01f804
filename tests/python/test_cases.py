"""Small inputs that once gave wrong rows, errors or panics. Each folder of `cases` has statements, the right rows of
each query (found with DuckDB or by hand), and a script that makes its Parquet files. Every case runs in five ways."""

import datetime
import decimal
import math
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from adbc_driver_flightsql import dbapi

from conftest import DEADLINES

CASES = pathlib.Path(__file__).parent / "cases"

# `spread`: with the techniques for large data. `hashed`: also without broadcasts. `small`: batches of three rows.
# `pushed`: scans test single rows.
SPREAD = [
    "hwacha.optimizer.single_task_bytes = 0",
    "hwacha.optimizer.shared_subplan_bytes = 0",
    "hwacha.optimizer.adaptive_task_bytes = 4096",
    "hwacha.optimizer.range_bytes = 1",
    "hwacha.optimizer.eager_aggregate_rows = 0",
    "hwacha.optimizer.split_partition_bytes = 1",
]
HASHED = [*SPREAD, "hwacha.optimizer.broadcast_rows = 0", "hwacha.optimizer.broadcast_bytes = 0"]
WAYS = {
    "default": [],
    "spread": SPREAD,
    "hashed": HASHED,
    "small": [*SPREAD, "datafusion.execution.batch_size = 3"],
    "pushed": [
        *HASHED,
        "datafusion.execution.parquet.pushdown_filters = true",
        "datafusion.execution.batch_size = 100",
    ],
}


def statements(text):
    return [statement.strip() for statement in text.split(";\n") if statement.strip()]


def is_query(statement):
    return re.match(r"\s*(select|with|\()", statement, re.IGNORECASE) is not None


def wanted(folder):
    """By query number: whether the order of the rows matters, and the right rows."""
    rows = {}
    for line in (folder / "rows.txt").read_text().splitlines():
        head = re.fullmatch(r"-- (\d+)( ordered)?", line)
        if head:
            current = rows[int(head[1])] = (bool(head[2]), [])
        else:
            current[1].append(line.split("|"))
    return rows


def plain(value):
    """The value, with decimals as floats at every depth."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def text(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value + 0.0)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return str(plain(value))


def same_cell(one, other):
    if one == other:
        return True
    try:
        one, other = float(one), float(other)
    except ValueError:
        return False
    return abs(one - other) <= 1e-6 * max(1, abs(one), abs(other))


def same(found, right, is_ordered):
    if not is_ordered:
        found, right = sorted(found), sorted(right)
    return len(found) == len(right) and all(
        len(one) == len(other) and all(map(same_cell, one, other)) for one, other in zip(found, right)
    )


class Session:
    def __init__(self, url):
        self.connection = dbapi.connect(url, db_kwargs=DEADLINES, autocommit=True)

    def run(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            if not is_query(sql):
                return None
            table = cursor.fetch_arrow_table()
        columns = [[text(value) for value in column.to_pylist()] for column in table.columns]
        return [list(row) for row in zip(*columns)]


@pytest.fixture(scope="session")
def prepared_cases(tmp_path_factory):
    """A copy of the cases with their Parquet files."""
    copy = tmp_path_factory.mktemp("cases") / "cases"
    shutil.copytree(CASES, copy)
    for script in copy.glob("*/make.py"):
        subprocess.run([sys.executable, script], check=True)
    return copy


@pytest.mark.parametrize("way", WAYS)
def test_small_inputs_give_the_right_rows(cluster, prepared_cases, way):
    wrong = []
    for folder in sorted(prepared_cases.iterdir()):
        session, right, number = Session(cluster.url), wanted(folder), 0
        for setting in WAYS[way]:
            session.run(f"SET {setting}")
        for statement in statements((folder / "case.sql").read_text().replace("$FOLDER", str(folder))):
            made = re.match(r"create (?:external )?table (\w+)", statement, re.IGNORECASE)
            if made:
                session.run(f"DROP TABLE IF EXISTS {made[1]}")
            number += is_query(statement)
            try:
                found = session.run(statement)
            except Exception as error:
                found = [[str(error)[:300]]]
            if found is not None and not same(found, right[number][1], right[number][0]):
                wrong.append(f"{folder.name} {number}: {statement}\n  came {found[:8]}\n  right {right[number][1][:8]}")
        session.connection.close()
    assert not wrong, f"{way}:\n" + "\n".join(wrong)


PARAMETERS = """create table case_parameters(
    i int, b bigint, d decimal(10,2), s varchar, t timestamp, e date, f double, z boolean) as values
    (1, 10, 1.50, 'a', timestamp '2024-05-01 10:00:00', date '2024-05-01', 0.5, true),
    (2, 20, 2.25, 'b', timestamp '2024-05-02 10:00:00', date '2024-05-02', 1.5, false),
    (3, null, null, null, null, null, null, null)"""

DAY = datetime.datetime(2024, 5, 2)

BOUND = [
    ("select i from t where i = $1", (2,), [(2,)]),
    ("select i from t where i = ?", (2,), [(2,)]),
    ("select i from t where i > ? and i < ?", (1, 3), [(2,)]),
    ("select i from t where i = $1 or b = $1 * 10", (2,), [(2,)]),
    ("select i from t where d = $1", (decimal.Decimal("2.25"),), [(2,)]),
    ("select i from t where d > $1", (decimal.Decimal("1.501"),), [(2,)]),
    ("select i from t where i < $1 order by 1", (2.5,), [(1,), (2,)]),
    ("select i from t where s = $1", ("b",), [(2,)]),
    ("select $1 || 'x' as y", ("it's; --",), [("it's; --x",)]),
    ("select i from t where e = $1", (datetime.date(2024, 5, 2),), [(2,)]),
    ("select i from t where t <= $1", (datetime.datetime(2024, 5, 1, 10),), [(1,)]),
    ("select i from t where z = $1", (False,), [(2,)]),
    ("select i from t where i = $1", (None,), []),
    ("select count(*) from t where $1 is null", (None,), [(3,)]),
    ("select coalesce($1, 5) as x", (None,), [(5,)]),
    ("select i from t order by i limit $1", (2,), [(1,), (2,)]),
    ("select i from t order by i limit $1 offset $2", (1, 1), [(2,)]),
    ("select i from t where i in ($1, $2) order by i", (1, 3), [(1,), (3,)]),
    ("select count(*) from t where $1 in (select b from t)", (20,), [(3,)]),
    ("select i from t where s like $1", ("%b",), [(2,)]),
    ("select i from t where t between $1 and $2", (DAY, DAY + datetime.timedelta(days=1)), [(2,)]),
    (
        "select i from t where t > $1 - interval '1 day' and i < 3 order by 1",
        (datetime.datetime(2024, 5, 2, 9),),
        [(1,), (2,)],
    ),
    ("select i from t where t <= $1", (datetime.datetime(2024, 5, 1, 10, tzinfo=datetime.timezone.utc),), [(1,)]),
    ("select i from t where array_has($1, i) order by i", ([1, 3],), [(1,), (3,)]),
    ("select length($1) as n", (b"\x00\x01\xff",), [(3,)]),
    ("select $1 as a, $2 as b from t where i = 1", (7, "x"), [(7, "x")]),
    ("select z, count(*) from t where z is not null group by z having count(*) >= $1 order by 1", (1,), [(False, 1), (True, 1)]),
    ("select case when i > $1 then 'hi' else $2 end as y from t order by i", (1, "lo"), [("lo",), ("hi",), ("hi",)]),
    ("select i, lag(i, 1, $1) over (order by i) as l from t order by i", (0,), [(1, 0), (2, 1), (3, 2)]),
]


def test_parameters_have_the_values_of_their_types(connection):
    with connection.cursor() as cursor:
        cursor.execute("drop table if exists case_parameters")
        cursor.execute(PARAMETERS)
        wrong = []
        for sql, parameters, right in BOUND:
            try:
                cursor.execute(sql.replace(" from t", " from case_parameters"), parameters)
                found = [tuple(row) for row in cursor.fetchall()]
            except Exception as error:
                found = str(error)[:300]
            if found != right:
                wrong.append(f"{sql} {parameters}: came {found}, right {right}")
        cursor.execute("drop table case_parameters")
    assert not wrong, "\n".join(wrong)


def test_parameters_are_announced_with_their_types(connection):
    with connection.cursor() as cursor:
        cursor.execute("drop table if exists case_parameters")
        cursor.execute(PARAMETERS)
        asked = "select i from case_parameters where d > $1 and s = $2 and (i = $3 or b = $3 * 10) limit $4"
        found = [(field.name, str(field.type)) for field in cursor.adbc_prepare(asked)]
        cursor.execute("drop table case_parameters")
    assert found == [("$1", "decimal128(10, 2)"), ("$2", "string"), ("$3", "int64"), ("$4", "int64")]
