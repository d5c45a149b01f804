"""Puts queries to engines with a Python interface: `python.py ENGINE JOB`.

Registers the job's tables, says that it is ready, and then runs the query of each number that it reads, writing its rows
where it is told.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

import pyarrow.ipc


def duckdb(job):
    import duckdb

    # Extensions come from the registry of packages, like DuckDB itself.
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.sql(f"SET threads = {job['cores'] * job['executors']}")
    connection.sql(f"SET memory_limit = '{job['memory_bytes'] * job['executors']}B'")
    if "store" in job:
        import duckdb_extension_httpfs

        package = pathlib.Path(duckdb_extension_httpfs.__file__).parent
        connection.sql(f"LOAD '{next(package.rglob('httpfs.duckdb_extension'))}'")
        for name, value in [("endpoint", job["store"]), ("url_style", "path")]:
            connection.sql(f"SET s3_{name} = '{value}'")
        connection.sql("SET s3_use_ssl = false")
    for table, path in job["tables"].items():
        connection.sql(f"CREATE VIEW \"{table}\" AS SELECT * FROM read_parquet('{path}')")
    return lambda sql: connection.sql(sql).to_arrow_table()


def spark(job):
    from pyspark.sql import SparkSession

    executors, cores, mebibytes = job["executors"], job["cores"], job["memory_bytes"] >> 20
    local = f"local[{cores}]" if executors == 1 else f"local-cluster[{executors},{cores},{mebibytes}]"
    builder = SparkSession.builder.master(local).config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    builder = builder.config("spark.driver.memory", f"{mebibytes}m").config("spark.executor.memory", f"{mebibytes}m")
    builder = builder.config("spark.sql.shuffle.partitions", executors * cores * 2)
    builder = builder.config("spark.local.dir", tempfile.mkdtemp()).config("spark.driver.maxResultSize", "0")
    session = builder.config("spark.log.level", "ERROR").getOrCreate()
    for table, path in job["tables"].items():
        session.read.parquet(path).createOrReplaceTempView(table)
    return lambda sql: session.sql(sql).toArrow()


def sail(job):
    os.environ["SAIL_RUNTIME__STACK_SIZE"] = str(16 << 20)
    if job["executors"] > 1:
        os.environ["SAIL_MODE"] = "local-cluster"
        os.environ["SAIL_CLUSTER__WORKER_INITIAL_COUNT"] = str(job["executors"])
        os.environ["SAIL_CLUSTER__WORKER_MAX_COUNT"] = str(job["executors"])
        os.environ["SAIL_CLUSTER__WORKER_TASK_SLOTS"] = str(job["cores"])
    os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = str(job["executors"] * job["cores"])
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{server.listening_address[1]}").getOrCreate()
    for table, path in job["tables"].items():
        session.read.parquet(path).createOrReplaceTempView(table)

    def run(sql, server=server):
        return session.sql(sql).toArrow()

    return run


def main():
    engine, path = sys.argv[1:]
    with open(path) as file:
        job = json.load(file)
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run = {"duckdb": duckdb, "spark": spark, "sail": sail}[engine](job)
    run("SELECT 1")
    print("ready ", file=answers)
    for line in sys.stdin:
        number, path = line.rstrip("\n").split(" ", 1)
        started = time.perf_counter()
        try:
            rows = run(job["queries"][number])
            seconds = time.perf_counter() - started
            with pyarrow.ipc.new_file(path, rows.schema) as writer:
                writer.write_table(rows)
        except Exception as error:  # Whatever it is, it is this query's failure.
            print("failed", " ".join(str(error).split())[:500], file=answers)
        else:
            print(seconds, file=answers)


main()
