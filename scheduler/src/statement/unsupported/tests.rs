//! Statements that are refused, each with a part of the sentence, and statements that are not.

use datafusion::common::config::Dialect;
use datafusion::prelude::SessionContext;
use datafusion::sql::planner::IdentNormalizer;

use super::check;
use crate::error::{Error, ErrorKind};
use crate::parsing::{parse, rewrite};

fn checked(dialect: Dialect, sql: &str) -> Result<(), Error> {
    let state = SessionContext::new().state();
    for mut statement in parse(sql, dialect)? {
        rewrite(&mut statement, &IdentNormalizer::default())?;
        check(&statement, &state)?;
    }
    Ok(())
}

fn are_refused(dialect: Dialect, statements: &[(&str, &str)]) {
    for (sql, sentence) in statements {
        let error = checked(dialect, sql).expect_err(sql);
        assert!(error.to_string().contains(sentence), "{sql}: {error}");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{sql}");
    }
}

fn are_accepted(dialect: Dialect, statements: &[&str]) {
    for sql in statements {
        if let Err(error) = checked(dialect, sql) {
            panic!("{sql}: {error}");
        }
    }
}

#[test]
fn tables() {
    are_refused(
        Dialect::Generic,
        &[
            ("SELECT count(*) FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE is not supported"),
            ("SELECT * FROM t TABLESAMPLE BERNOULLI (10) REPEATABLE (1)", "TABLESAMPLE is not supported"),
            ("SELECT * FROM (SELECT 1 AS q) AS x TABLESAMPLE (10 PERCENT)", "TABLESAMPLE is not supported"),
            ("SELECT * FROM t WITH ORDINALITY", "WITH ORDINALITY is not supported"),
            ("SELECT * FROM generate_series(1, 2) WITH ORDINALITY", "WITH ORDINALITY is not supported"),
            ("SELECT * FROM LATERAL generate_series(1, 2) WITH ORDINALITY", "WITH ORDINALITY is not supported"),
            ("SELECT * FROM t PARTITION (p0)", "PARTITION after a table is not supported"),
            ("SELECT * FROM t WITH (NOLOCK)", "table hints such as WITH (NOLOCK) are not supported"),
            ("SELECT * FROM t AS v (x INT, y TEXT)", "types in the column list of an alias are not supported"),
            ("SELECT * FROM LATERAL generate_series(start => 1, stop => 2)", "do not support named arguments"),
            ("SELECT * FROM generate_series.foo(1, 2)", "there is no table function generate_series.foo"),
            ("SELECT * FROM LATERAL foo.generate_series(1, 2)", "there is no table function foo.generate_series"),
            ("SELECT * FROM TABLE(generate_series(1, 2))", "TABLE(…) is not supported in FROM"),
            ("SELECT * FROM t PIVOT (sum(a) FOR b IN ('x'))", "PIVOT is not supported"),
            ("SELECT * FROM t UNPIVOT (x FOR y IN (a, b))", "UNPIVOT is not supported"),
        ],
    );
    are_refused(
        Dialect::Snowflake,
        &[
            ("SELECT * FROM t SAMPLE ROW (10) SEED (1)", "TABLESAMPLE is not supported"),
            ("SELECT * FROM t BEFORE (STATEMENT => 'x')", "tables have no versions"),
            (
                "SELECT * FROM t CHANGES (INFORMATION => DEFAULT) AT (TIMESTAMP => '2020-01-01')",
                "tables have no versions",
            ),
        ],
    );
    are_refused(
        Dialect::BigQuery,
        &[("SELECT * FROM t FOR SYSTEM_TIME AS OF '2020-01-01'", "tables have no versions")],
    );
    are_refused(Dialect::Databricks, &[("SELECT * FROM t VERSION AS OF 1", "tables have no versions")]);
    are_refused(Dialect::MySQL, &[("SELECT * FROM t FORCE INDEX FOR ORDER BY (x)", "there are no indexes")]);
    are_refused(Dialect::Redshift, &[("SELECT * FROM t AS x AT i", "AT after an alias is not supported")]);
    are_refused(
        Dialect::Hive,
        &[
            ("SELECT * FROM t TABLESAMPLE (BUCKET 1 OUT OF 4)", "TABLESAMPLE is not supported"),
            ("SELECT * FROM t TABLESAMPLE (10 ROWS)", "TABLESAMPLE is not supported"),
        ],
    );
    are_accepted(
        Dialect::Generic,
        &[
            "FROM t",
            "SELECT * FROM t AS v (x, y), u w CROSS JOIN LATERAL (SELECT 1) l",
            "SELECT * FROM generate_series(1, 2) AS g (x)",
            "SELECT * FROM LATERAL generate_series(1, 2)",
            "SELECT * FROM unnest([1, 2]) AS x (v)",
            "SELECT * FROM 'some/file.parquet'",
            "SELECT * FROM (t JOIN u USING (a)) JOIN v ON true",
            "SELECT * FROM (VALUES (1), (2)) AS x (v)",
        ],
    );
}

#[test]
fn selects() {
    are_refused(
        Dialect::Generic,
        &[
            ("SELECT TOP 1 a FROM t", "TOP is not supported"),
            ("SELECT a FROM t PREWHERE a > 1", "PREWHERE is not supported"),
            ("SELECT a FROM t START WITH a = 1 CONNECT BY PRIOR a = b", "CONNECT BY are not supported"),
            ("SELECT a, count(*) FROM t GROUP BY a WITH ROLLUP", "write GROUP BY ROLLUP"),
            ("SELECT a, count(*) FROM t GROUP BY a WITH CUBE", "write GROUP BY ROLLUP"),
            ("SELECT a, count(*) FROM t GROUP BY a WITH TOTALS", "write GROUP BY ROLLUP"),
            ("SELECT a, count(*) FROM t GROUP BY ALL WITH TOTALS", "write GROUP BY ROLLUP"),
            ("SELECT a FROM t SORT BY a", "SORT BY is not supported"),
            ("SELECT a FROM t CLUSTER BY a", "CLUSTER BY is not supported"),
            ("SELECT a FROM t DISTRIBUTE BY a", "DISTRIBUTE BY is not supported"),
            ("SELECT a FROM t LATERAL VIEW explode(l) x AS y", "LATERAL VIEW is not supported"),
            ("SELECT * ILIKE '%a%' FROM t", "* ILIKE is not supported"),
            ("SELECT * RENAME (a AS q) FROM t", "* RENAME is not supported"),
            ("SELECT * FROM t SEMI JOIN u ON t.a = u.a", "write LEFT SEMI JOIN"),
            ("SELECT * FROM t CROSS APPLY (SELECT 1) x", "CROSS APPLY is not supported"),
            ("SELECT * FROM (SELECT a FROM t PREWHERE a > 1) x", "PREWHERE is not supported"),
            ("SELECT (SELECT max(a) FROM t GROUP BY b WITH ROLLUP)", "write GROUP BY ROLLUP"),
            ("SELECT 1 WHERE 1 IN (SELECT a FROM t TABLESAMPLE (1 PERCENT))", "TABLESAMPLE is not supported"),
            ("SELECT a FROM t UNION ALL SELECT a FROM u PREWHERE a > 1", "PREWHERE is not supported"),
            ("CREATE VIEW v AS SELECT a FROM t PREWHERE a > 1", "PREWHERE is not supported"),
            ("EXPLAIN SELECT a FROM t PREWHERE a > 1", "PREWHERE is not supported"),
            ("PREPARE p AS SELECT a FROM t PREWHERE a > $1", "PREWHERE is not supported"),
        ],
    );
    are_refused(
        Dialect::BigQuery,
        &[
            ("SELECT AS STRUCT a, b FROM t", "SELECT AS STRUCT"),
            ("SELECT DISTINCT AS VALUE a FROM t", "SELECT AS STRUCT"),
        ],
    );
    are_refused(
        Dialect::MySQL,
        &[
            ("SELECT HIGH_PRIORITY a FROM t", "HIGH_PRIORITY"),
            ("SELECT SQL_CALC_FOUND_ROWS a FROM t", "the SQL_ words"),
            ("SELECT * FROM t STRAIGHT_JOIN u", "STRAIGHT_JOIN is not supported"),
        ],
    );
    are_refused(Dialect::Redshift, &[("SELECT a, b EXCLUDE a FROM t", "EXCLUDE is supported only right after *")]);
    are_refused(
        Dialect::Hive,
        &[("SELECT a, count(*) FROM t GROUP BY a GROUPING SETS (a)", "GROUPING SETS after the columns")],
    );
    are_accepted(
        Dialect::Generic,
        &[
            "SELECT ALL a FROM t",
            "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b",
            "SELECT * EXCLUDE (a) FROM t",
            "SELECT * EXCEPT (a, b), 1 AS one FROM t",
            "SELECT t.* REPLACE (a + 1 AS a) FROM t",
            "SELECT a, count(*) FROM t GROUP BY ALL HAVING count(*) > 1",
            "SELECT a, b, count(*) FROM t GROUP BY GROUPING SETS ((a), (b), ()), ROLLUP (a), CUBE (a, b)",
            "SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY b ORDER BY a) = 1",
            "FROM t SELECT a",
            "SELECT * FROM t GLOBAL JOIN u USING (a) NATURAL LEFT JOIN v CROSS JOIN w",
            "SELECT * FROM t LEFT SEMI JOIN u ON t.a = u.a RIGHT ANTI JOIN v ON t.a = v.a FULL JOIN w ON true",
        ],
    );
    are_accepted(Dialect::MySQL, &["SELECT /*+ MAX_EXECUTION_TIME(1) */ a FROM t"]);
}

#[test]
fn queries() {
    are_refused(
        Dialect::Generic,
        &[
            ("SELECT * FROM t FOR UPDATE", "rows are never locked"),
            ("SELECT * FROM t FOR SHARE OF t NOWAIT", "rows are never locked"),
            ("SELECT (SELECT count(*) FROM t FOR UPDATE)", "rows are never locked"),
            ("WITH c AS (SELECT a FROM t FOR UPDATE) SELECT * FROM c", "rows are never locked"),
            ("SELECT * FROM t FOR JSON AUTO", "FOR JSON"),
            ("SELECT * FROM t SETTINGS max_threads = 1", "SETTINGS in a query is not supported"),
            ("SELECT * FROM t FORMAT JSON", "FORMAT in a query is not supported"),
            ("SELECT a FROM t LIMIT 1 BY a", "LIMIT … BY is not supported"),
            ("SELECT a FROM t FETCH FIRST 1 ROWS ONLY", "FETCH is not supported; write LIMIT"),
            ("SELECT a FROM t FETCH FIRST 1 ROWS WITH TIES", "WITH TIES is not supported"),
            ("SELECT a FROM t FETCH FIRST 10 PERCENT ROWS ONLY", "PERCENT is not supported"),
            ("SELECT a FROM t MINUS SELECT a FROM u", "write EXCEPT"),
            ("SELECT a INTO x FROM t UNION ALL SELECT a FROM u", "INTO is supported only in a statement"),
            ("SELECT * FROM (SELECT a INTO x FROM t) q", "INTO is supported only in a statement"),
            ("CREATE TABLE y AS SELECT a INTO x FROM t", "INTO is supported only in a statement"),
            ("SELECT a INTO x FROM t |> WHERE a > 1", "INTO is supported only in a statement"),
            ("SELECT a INTO TEMPORARY x FROM t", "temporary tables are not supported"),
            ("SELECT a INTO UNLOGGED x FROM t", "UNLOGGED is not supported"),
            ("FROM t |> AGGREGATE sum(a) AS s DESC GROUP BY b ASC", "|> AGGREGATE"),
            (
                "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r LIMIT 3) SELECT * FROM r",
                "put them into the query that reads r",
            ),
            (
                "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT 2 ORDER BY x LIMIT 1) SELECT * FROM r",
                "put them into the query that reads r",
            ),
            (
                "WITH RECURSIVE r AS (WITH s AS (SELECT 1 AS x) SELECT x FROM s UNION ALL SELECT x + 1 FROM r) \
                 SELECT * FROM r",
                "WITH is not supported within the recursive query r",
            ),
            (
                "WITH RECURSIVE r AS (SELECT 1 AS x, 2 AS y UNION ALL BY NAME SELECT y, x FROM R WHERE x < 5) SELECT \
                 * FROM r",
                "BY NAME is not supported in the recursive query r",
            ),
        ],
    );
    are_refused(
        Dialect::DuckDB,
        &[
            (
                "SELECT a FROM t UNION ALL SELECT a FROM u ORDER BY ALL",
                "ORDER BY ALL is supported only after one SELECT",
            ),
            ("(SELECT a FROM t) ORDER BY ALL", "ORDER BY ALL is supported only after one SELECT"),
            ("VALUES (2), (1) ORDER BY ALL", "ORDER BY ALL is supported only after one SELECT"),
        ],
    );
    are_refused(
        Dialect::MsSQL,
        &[("SELECT a FROM t FOR XML AUTO", "FOR XML"), ("SELECT a FROM t FOR BROWSE", "FOR BROWSE")],
    );
    are_refused(
        Dialect::ClickHouse,
        &[("SELECT a FROM t ORDER BY a INTERPOLATE (b AS b + 1)", "INTERPOLATE is not supported")],
    );
    are_accepted(
        Dialect::Generic,
        &[
            "SELECT a FROM t ORDER BY a DESC NULLS LAST LIMIT 2 OFFSET 1 ROWS",
            "SELECT a FROM t LIMIT 1, 2",
            "SELECT a INTO x FROM t ORDER BY a LIMIT 1",
            "SELECT a FROM t UNION SELECT a FROM u EXCEPT ALL SELECT a FROM v INTERSECT SELECT 1 ORDER BY 1",
            "SELECT 1 AS x, 2 AS y UNION ALL BY NAME SELECT 3 AS y, 4 AS x",
            "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r LIMIT 3",
            "WITH RECURSIVE a AS ((SELECT 1 AS x UNION ALL SELECT 2 ORDER BY x LIMIT 1)) SELECT * FROM a",
            "WITH RECURSIVE a AS (SELECT 1 AS x LIMIT 1), b AS (SELECT 1 AS x UNION BY NAME SELECT 2 AS x) SELECT * \
             FROM a, b",
            "FROM t |> WHERE a > 1 |> EXTEND a + 1 AS b |> AGGREGATE sum(a) AS s GROUP BY b |> ORDER BY s |> LIMIT 1",
            "VALUES ROW(1), ROW(2)",
        ],
    );
    are_accepted(Dialect::DuckDB, &["SELECT a FROM t ORDER BY ALL"]);
    are_accepted(
        Dialect::PostgreSQL,
        &["WITH a AS MATERIALIZED (SELECT 1), b AS NOT MATERIALIZED (SELECT 2) SELECT * FROM a, b", "SELECT FROM t"],
    );
}

#[test]
fn functions() {
    are_refused(
        Dialect::Generic,
        &[
            ("SELECT lower(DISTINCT 'A')", "DISTINCT is not supported with lower()"),
            ("SELECT LOWER(DISTINCT 'A')", "DISTINCT is not supported with LOWER()"),
            ("SELECT abs(a) FILTER (WHERE false) FROM t", "FILTER is not supported with abs()"),
            ("SELECT abs(a) OVER () FROM t", "OVER is not supported with abs()"),
            ("SELECT abs(a) OVER w FROM t WINDOW w AS ()", "OVER is not supported with abs()"),
            ("SELECT abs(a ORDER BY b) FROM t", "ORDER BY is not supported with abs()"),
            ("SELECT abs(a) IGNORE NULLS FROM t", "IGNORE NULLS or RESPECT NULLS is not supported with abs()"),
            ("SELECT abs(0.5) WITHIN GROUP (ORDER BY a) FROM t", "WITHIN GROUP is not supported with abs()"),
            ("SELECT unnest([1, 2]) FILTER (WHERE false)", "FILTER is not supported with unnest()"),
            ("SELECT unnest(foo => [1, 2])", "unnest() does not support named arguments"),
            ("SELECT map(foo => 'a', bar => 1)", "map() does not support named arguments"),
            ("SELECT sum(0.5)(a) FROM t", "two lists of arguments after sum"),
            ("SELECT lead(DISTINCT a) OVER (ORDER BY a) FROM t", "DISTINCT is not supported with lead()"),
            ("SELECT rank() IGNORE NULLS OVER (ORDER BY a) FROM t", "IGNORE NULLS is not supported with rank()"),
            ("SELECT sum(c) RESPECT NULLS OVER (ORDER BY a) FROM t", "RESPECT NULLS is not supported with sum()"),
            ("SELECT corr(DISTINCT a, c) FROM t", "DISTINCT is not supported with corr()"),
            ("SELECT regr_slope(DISTINCT a, c) FROM t", "DISTINCT is not supported with regr_slope()"),
            ("SELECT covar_samp(DISTINCT a, c) OVER () FROM t", "DISTINCT is not supported with covar_samp()"),
            ("SELECT nth_value(DISTINCT a, 2 ORDER BY a) FROM t", "DISTINCT is not supported with nth_value()"),
            (
                "SELECT approx_percentile_cont(DISTINCT a, 0.5) FROM t",
                "DISTINCT is not supported with approx_percentile_cont()",
            ),
            ("SELECT count(DISTINCT *) FROM t", "count(DISTINCT *) is not supported"),
            ("SELECT count(u.*) FROM t LEFT JOIN u ON t.a = u.a", "count(u.*) is not supported"),
            ("SELECT grouping(a) FILTER (WHERE false) FROM t GROUP BY ROLLUP (a)", "grouping()"),
            ("SELECT percentile_cont(a, 0.5 ORDER BY c) FROM t", "WITHIN GROUP"),
            ("SELECT quantile_cont(a, 0.5 ORDER BY c) FROM t", "WITHIN GROUP"),
            ("SELECT trim('xax', 'x', 'a')", "trim() takes one text of characters"),
        ],
    );
    are_refused(
        Dialect::Databricks,
        &[
            ("SELECT array_transform(DISTINCT [1, 2], x -> x + 1)", "DISTINCT is not supported with array_transform()"),
            ("SELECT array_transform([1, 2], x -> x + 1) OVER ()", "OVER is not supported with array_transform()"),
        ],
    );
    are_refused(Dialect::PostgreSQL, &[("SELECT array(SELECT a FROM t)", "(SELECT …) is not supported")]);
    are_accepted(
        Dialect::Generic,
        &[
            "SELECT {fn concat('a', 'b')}, current_date, now(), coalesce(ALL 1, 2)",
            "SELECT count(*), count(DISTINCT a), count(ALL a), sum(DISTINCT a) FILTER (WHERE a > 1), avg(DISTINCT a) \
             FROM t",
            "SELECT array_agg(DISTINCT a ORDER BY a DESC), string_agg(DISTINCT b, ',' ORDER BY b) FROM t",
            "SELECT count(a ORDER BY b), array_agg(a) IGNORE NULLS, first_value(a ORDER BY b) FROM t",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a DESC), percentile_cont(a, 0.5 ORDER BY a) FROM t",
            "SELECT var_samp(DISTINCT a), stddev(DISTINCT a), median(DISTINCT a), bit_xor(DISTINCT a) FROM t",
            "SELECT count(DISTINCT a) OVER (), sum(a) FILTER (WHERE a > 1) OVER (ORDER BY b ROWS 1 PRECEDING) FROM t",
            "SELECT lag(a) IGNORE NULLS OVER (ORDER BY b), first_value(a) RESPECT NULLS OVER (ORDER BY b) FROM t",
            "SELECT array_agg(a) IGNORE NULLS OVER (ORDER BY b), nth_value(a, 2) IGNORE NULLS OVER (ORDER BY b) FROM t",
            "SELECT row_number() OVER w, corr(a, c) OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY a)",
            "SELECT sum(a) OVER (w ORDER BY c) FROM t WINDOW w AS (PARTITION BY b)",
            "SELECT grouping(a, b) FROM t GROUP BY CUBE (a, b)",
            "SELECT make_map('a', 1), map(['a'], [1]), unnest([1, 2]), trim('xax', 'xa')",
            "SELECT no_such_function(DISTINCT a) OVER () FROM t",
        ],
    );
    are_accepted(Dialect::Databricks, &["SELECT array_transform([1, 2], x -> x + 1)"]);
}

#[test]
fn windows_must_be_there() {
    for sql in [
        "SELECT sum(a) OVER w FROM t",
        "SELECT sum(a) OVER (w ORDER BY b) FROM t",
        "SELECT b FROM t GROUP BY b HAVING sum(a) OVER w > 1 WINDOW w AS ()",
        "SELECT a FROM t UNION ALL SELECT a FROM t WINDOW w AS () ORDER BY sum(a) OVER w",
    ] {
        let error = checked(Dialect::Generic, sql).expect_err(sql);
        assert!(error.to_string().contains("there is no window w here"), "{sql}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}");
    }
}

#[test]
fn expressions_and_types() {
    are_refused(
        Dialect::Generic,
        &[
            ("SELECT CAST('abcdef' AS CHAR(3))", "CHAR(3) is not supported"),
            ("SELECT 'abcdef'::CHAR(3)", "CHAR(3) is not supported"),
            ("SELECT TRY_CAST(['abcdef'] AS VARCHAR(3)[])", "VARCHAR(3) is not supported"),
            ("SELECT CAST(1.5 AS FLOAT(53))", "write DOUBLE"),
            ("SELECT CAST(1.5 AS FLOAT(5, 2))", "write DOUBLE"),
            ("SELECT CAST(named_struct('a', 1) AS STRUCT<a BIGINT OPTIONS (x = 1)>)", "options of a STRUCT's fields"),
            ("SELECT a COLLATE \"C\" FROM t", "COLLATE is not supported"),
            ("SELECT a FROM t ORDER BY a COLLATE \"C\"", "COLLATE is not supported"),
            ("SELECT 'a' RLIKE 'a'", "use ~ or regexp_like()"),
            ("SELECT 'a' IS NFC NORMALIZED", "IS NORMALIZED is not supported"),
            ("SELECT 1 IN UNNEST([1])", "use array_has"),
            ("SELECT a:b FROM t", "a path after : is not supported"),
        ],
    );
    are_refused(
        Dialect::MySQL,
        &[
            ("SELECT CONVERT(a, CHAR(3)) FROM t", "CONVERT is not supported"),
            ("SELECT _utf8 'a'", "a character set before a string"),
            ("SELECT MATCH (b) AGAINST ('a') FROM t", "MATCH … AGAINST is not supported"),
            ("SELECT a MEMBER OF ('[1]') FROM t", "MEMBER OF is not supported"),
        ],
    );
    are_accepted(
        Dialect::Generic,
        &[
            "SELECT CAST(a AS VARCHAR), a::TEXT, CAST(a AS FLOAT(24)), CAST(a AS DECIMAL(10, 2)), CAST(a AS INT(11)) \
             FROM t",
            "SELECT CAST(a AS TIMESTAMP(3)), CAST(a AS TIMESTAMP WITH TIME ZONE), TRY_CAST(a AS BIGINT[]), DATE \
             '2020-01-01'",
            "SELECT a AT TIME ZONE 'UTC', INTERVAL '1' DAY, EXTRACT(YEAR FROM a), CEIL(a), FLOOR(a), POSITION('b' IN \
             a) FROM t",
            "SELECT SUBSTRING('abc' FROM 2 FOR 1), OVERLAY('abc' PLACING 'x' FROM 2), TRIM(BOTH 'x' FROM 'xax'), {d \
             '2020-01-01'}",
            "SELECT a LIKE 'x' ESCAPE '$', a ILIKE 'x', a SIMILAR TO 'x', a BETWEEN 1 AND 2, a IS NOT DISTINCT FROM \
             1 FROM t",
            "SELECT a = ANY (SELECT 1), a > ALL (SELECT 1), EXISTS (SELECT 1), (SELECT 1), (a, b), [1][1], {'a': 1} \
             FROM t",
            "SELECT CASE a WHEN 1 THEN 2 ELSE 3 END, struct(1 AS a, 2), MAP {'a': 1}, a.b['c'], $1 FROM t",
        ],
    );
}

#[test]
fn definitions() {
    are_refused(
        Dialect::Generic,
        &[
            ("CREATE TABLE x (a INT PRIMARY KEY)", "since nothing would check them"),
            ("CREATE TABLE x (a INT UNIQUE)", "since nothing would check them"),
            ("CREATE TABLE x (a INT, PRIMARY KEY (a)) AS SELECT 1", "since nothing would check them"),
            ("CREATE TABLE x (a INT CHECK (a > 0))", "since nothing would check them"),
            ("CREATE TABLE x (a INT REFERENCES u (a))", "since nothing would check them"),
            ("CREATE TABLE x (a INT, FOREIGN KEY (a) REFERENCES u (a))", "since nothing would check them"),
            ("CREATE TABLE x (a INT DEFAULT 3)", "DEFAULT is not supported"),
            ("CREATE TABLE x (a TEXT COLLATE \"C\")", "COLLATE \"C\" is not supported; leave it out of column a"),
            ("CREATE TABLE x (a INT GENERATED ALWAYS AS IDENTITY)", "is not supported; leave it out of column a"),
            ("CREATE TABLE x (a VARCHAR(3)) AS SELECT 'abcdef'", "VARCHAR(3) is not supported"),
            ("CREATE TEMPORARY TABLE x AS SELECT 1 AS a", "temporary tables are not supported"),
            ("CREATE OR ALTER VIEW v AS SELECT 1", "write CREATE OR REPLACE VIEW"),
            ("CREATE SECURE VIEW v AS SELECT 1", "secure views are not supported"),
            ("DROP TABLE t CASCADE", "CASCADE is not supported"),
            ("DROP VIEW v RESTRICT", "RESTRICT is not supported"),
            ("DROP TABLE t PURGE", "PURGE is not supported"),
            (
                "CREATE EXTERNAL TEMPORARY TABLE x (a INT) STORED AS CSV LOCATION 'x.csv'",
                "temporary tables are not supported",
            ),
            ("CREATE EXTERNAL TABLE x (a INT DEFAULT 3) STORED AS CSV LOCATION 'x.csv'", "DEFAULT is not supported"),
            (
                "CREATE EXTERNAL TABLE x (a INT COLLATE \"C\") STORED AS CSV LOCATION 'x.csv'",
                "leave it out of column a",
            ),
            ("CREATE EXTERNAL TABLE x (a FLOAT(53)) STORED AS CSV LOCATION 'x.csv'", "write DOUBLE"),
            (
                "CREATE EXTERNAL TABLE x (a INT CHECK (a > 0)) STORED AS CSV LOCATION 'x.csv'",
                "does not support FOREIGN KEY",
            ),
            (
                "CREATE EXTERNAL TABLE x (a INT, UNIQUE (a) ENFORCED) STORED AS CSV LOCATION 'x.csv'",
                "ENFORCED is not supported",
            ),
            (
                "CREATE EXTERNAL TABLE x (a INT) STORED AS CSV WITH ORDER (abs(DISTINCT a)) LOCATION 'x.csv'",
                "DISTINCT is not supported with abs()",
            ),
        ],
    );
    are_refused(
        Dialect::MySQL,
        &[
            ("CREATE TABLE x (a INT AUTO_INCREMENT)", "AUTO_INCREMENT is not supported; leave it out of column a"),
            ("CREATE TABLE x (a INT COMMENT 'q')", "leave it out of column a"),
            ("DROP TEMPORARY TABLE t", "there are no temporary tables"),
            ("CREATE ALGORITHM = MERGE VIEW v AS SELECT 1", "ALGORITHM, DEFINER and SQL SECURITY"),
        ],
    );
    are_refused(
        Dialect::ClickHouse,
        &[("CREATE VIEW v (a Int32) AS SELECT 1", "the columns of a view have no types of their own")],
    );
    are_accepted(
        Dialect::Generic,
        &[
            "CREATE TABLE x (a INT, b VARCHAR) AS VALUES (1, 'x')",
            "CREATE TABLE IF NOT EXISTS x (a INT NOT NULL, b VARCHAR(10) NULL)",
            "CREATE OR REPLACE TABLE x AS FROM t",
            "CREATE OR REPLACE VIEW v (a, b) AS SELECT 1, 2",
            "CREATE EXTERNAL TABLE x (a INT NOT NULL, b CHAR(10), PRIMARY KEY (a), UNIQUE (b)) STORED AS CSV \
             PARTITIONED BY (b) WITH ORDER (a DESC NULLS LAST) OPTIONS ('format.has_header' 'true') LOCATION 'x.csv'",
            "DROP TABLE IF EXISTS t",
            "DROP VIEW v",
        ],
    );
}

#[test]
fn other_statements() {
    are_refused(
        Dialect::Hive,
        &[
            ("DESCRIBE EXTENDED t", "write DESCRIBE name"),
            ("DESCRIBE FORMATTED t", "write DESCRIBE name"),
            ("ANALYZE TABLE t CACHE METADATA", "CACHE METADATA is not supported"),
        ],
    );
    are_refused(
        Dialect::Generic,
        &[
            ("DESCRIBE ANALYZE SELECT 1", "DESCRIBE takes no options"),
            ("DESCRIBE VERBOSE SELECT 1", "DESCRIBE takes no options"),
            ("PREPARE p AS EXPLAIN QUERY PLAN SELECT 1", "EXPLAIN QUERY PLAN is not supported"),
            ("PREPARE p (VARCHAR(3)) AS SELECT $1", "VARCHAR(3) is not supported"),
            ("EXPLAIN ANALYZE FORMAT pgjson SELECT 1", "leave out FORMAT"),
        ],
    );
    are_refused(
        Dialect::PostgreSQL,
        &[
            ("EXPLAIN (ANALYZE, LEVEL dev) SELECT 1", "leave out LEVEL"),
            ("EXPLAIN (ANALYZE, METRICS 'rows') SELECT 1", "leave out METRICS"),
        ],
    );
    are_accepted(
        Dialect::Generic,
        &[
            "SHOW TABLES; SHOW COLUMNS FROM t; SHOW ALL; SHOW FUNCTIONS LIKE 'abs'; SHOW CREATE TABLE t",
            "DESCRIBE t; DESCRIBE SELECT 1; ANALYZE TABLE t; ANALYZE TABLE t COMPUTE STATISTICS",
            "SET datafusion.execution.batch_size = 100; RESET datafusion.execution.batch_size; SET timezone = '+01:00'",
            "EXPLAIN SELECT 1; EXPLAIN VERBOSE SELECT 1; EXPLAIN FORMAT tree SELECT 1; EXPLAIN ANALYZE VERBOSE \
             SELECT 1",
            "PREPARE p (INT) AS SELECT $1; EXECUTE p (1); DEALLOCATE PREPARE p",
            "COPY t TO 'x.parquet'; INSERT INTO t VALUES (1); BEGIN; COMMIT",
        ],
    );
    are_accepted(Dialect::PostgreSQL, &["EXPLAIN (COSTS ON) SELECT 1", "EXPLAIN (VERBOSE) SELECT 1"]);
}
