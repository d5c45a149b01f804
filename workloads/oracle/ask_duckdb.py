"""DuckDB as the judge: all rows of a query in order, each with its sort keys. `ask_duckdb.py JOB`.

A query with ORDER BY leaves the order of rows with equal keys open, and with LIMIT also which of them come. So the
LIMIT is taken off, and each key becomes a further column `hwacha_key_N`, as `workloads/src/oracle.rs` does to plain
DataFusion's plans. The schema's metadata says what the LIMIT was.

The job is a JSON file with tables (name: Parquet file), queries (number: SQL) and changes, which are texts that DuckDB
wants otherwise (number: [[text, other text], ...]). The script says that it is ready. It then reads lines of a number
and a file, and writes the query's rows to the file as an Arrow IPC file.
"""

import base64
import json
import os
import sys
import time

import duckdb
import pyarrow
import pyarrow.ipc
import pyarrow.parquet

# NULLs are the largest values, as in DataFusion. Times with a zone are shown in UTC.
SETTINGS = ["default_null_order = 'nulls_last_on_asc_first_on_desc'", "TimeZone = 'UTC'"]


def connect(job):
    database = duckdb.connect()
    for setting in SETTINGS:
        database.execute(f"SET {setting}")
    for table, path in job["tables"].items():
        quoted = path.replace("'", "''")
        database.execute(f"CREATE VIEW \"{table}\" AS SELECT {columns(path)} FROM read_parquet('{quoted}')")
    return database


def columns(path):
    """All columns. Parquet has no times in seconds: they are whole numbers there, and only Arrow's schema tells."""
    encoded = (pyarrow.parquet.read_metadata(path).metadata or {}).get(b"ARROW:schema")
    if encoded is None:
        return "*"
    schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(encoded)))
    seconds = [field.name for field in schema if field.type == pyarrow.timestamp("s")]
    times = ", ".join(f'make_timestamp("{name}" * 1000000) AS "{name}"' for name in seconds)
    return f"* REPLACE ({times})" if times else "*"


def changed(sql, changes):
    """The query with its texts replaced; an error if one is not there."""
    for text, other in changes:
        if text not in sql:
            raise ValueError(f"the query has no {text!r} to change")
        sql = sql.replace(text, other)
    return sql


def without_limit(database, sql):
    """The query without its LIMIT and with its keys, and what the LIMIT was."""
    (serialized,) = database.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tree = json.loads(serialized)
    if tree["error"]:
        raise ValueError(tree["error_message"])
    node = tree["statements"][0]["node"]
    limit = {}
    for modifier in node["modifiers"]:
        if modifier["type"] == "LIMIT_MODIFIER":
            limit = {"skip": number(modifier["offset"]), "fetch": number(modifier["limit"])}
        if modifier["type"] == "ORDER_MODIFIER":
            add_keys(node, modifier["orders"], database.sql(sql).columns)
    node["modifiers"] = [modifier for modifier in node["modifiers"] if modifier["type"] != "LIMIT_MODIFIER"]
    (sql,) = database.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone()
    return sql, {name: str(value) for name, value in limit.items() if value is not None}


def number(expression):
    """The number that a LIMIT or an OFFSET is, or None."""
    return None if expression is None else expression["value"]["value"]


def add_keys(node, orders, columns):
    if node["type"] != "SELECT_NODE":
        raise ValueError("ORDER BY is only understood at the end of one SELECT")
    selected = list(node["select_list"])
    if any(expression["class"] == "STAR" for expression in selected):
        selected = [column(name) for name in columns]
    for index, order in enumerate(orders):
        node["select_list"].append(key(order["expression"], selected) | {"alias": f"hwacha_key_{index}"})


def column(name):
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "query_location": 0, "column_names": [name]}


def key(expression, selected):
    """A sort key as an expression of the SELECT list. `ORDER BY 2` means the second one."""
    if expression["class"] == "CONSTANT":
        return selected[expression["value"]["value"] - 1]
    return without_aliases(expression, selected)


def without_aliases(expression, selected):
    """An expression with the selected expressions in place of their aliases."""
    if isinstance(expression, list):
        return [without_aliases(child, selected) for child in expression]
    if not isinstance(expression, dict):
        return expression
    names = [name.lower() for name in expression.get("column_names", [])]
    if len(names) == 1:
        for other in selected:
            if other["alias"].lower() == names[0]:
                return other | {"alias": ""}
    return {name: without_aliases(child, selected) for name, child in expression.items()}


def answer(database, sql, path):
    sql, limit = without_limit(database, sql)
    rows = database.sql(sql).to_arrow_table().replace_schema_metadata(limit)
    with pyarrow.ipc.new_file(path, rows.schema) as writer:
        writer.write_table(rows)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    database = connect(job)
    print("ready ", file=answers)
    for line in sys.stdin:
        query, path = line.rstrip("\n").split(" ", 1)
        started = time.perf_counter()
        try:
            answer(database, changed(job["queries"][query], job["changes"].get(query, [])), path)
        except Exception as error:  # Whatever it is, it is this query's failure.
            print("failed", " ".join(str(error).split())[:500], file=answers)
        else:
            print(time.perf_counter() - started, file=answers)


if __name__ == "__main__":
    main()
