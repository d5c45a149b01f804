"""Writes the queries of TPC-DS, as the packages `duckdb` and `duckdb-extension-tpcds` have them, to a directory.

The specification's text may not be copied into a repository; the packages bring it to where it is run.
"""

import pathlib
import sys

import duckdb
import duckdb_extension_tpcds


def main(directory: pathlib.Path) -> None:
    package = pathlib.Path(duckdb_extension_tpcds.__file__).parent
    (extension,) = package.rglob("*.duckdb_extension")
    # The extension comes from the registry of packages like DuckDB itself; DuckDB's own signature is not asked for.
    database = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    database.execute(f"LOAD '{extension}'")
    directory.mkdir(parents=True, exist_ok=True)
    for number, query in database.execute("SELECT query_nr, query FROM tpcds_queries()").fetchall():
        (directory / f"q{number:02}.sql").write_text(query, encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
