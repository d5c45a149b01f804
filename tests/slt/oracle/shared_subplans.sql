WITH t AS (SELECT l_orderkey AS k, sum(l_quantity) AS q FROM lineitem GROUP BY l_orderkey)
SELECT a.k, a.q, b.q FROM t a JOIN t b ON a.k = b.k + 1 WHERE a.q > 100;
WITH t AS (SELECT l_orderkey AS k, sum(l_quantity) AS q FROM lineitem GROUP BY l_orderkey)
SELECT k, q FROM t WHERE q > 200 UNION ALL SELECT k, q FROM t WHERE q > 250;
WITH t AS (SELECT o_custkey AS c, count(*) AS n FROM orders GROUP BY o_custkey)
SELECT n, count(*) FROM t GROUP BY n UNION ALL SELECT n, count(*) FROM t GROUP BY n;
WITH t AS (SELECT o_custkey AS c, count(*) AS n FROM orders GROUP BY o_custkey)
SELECT a.c, a.n FROM t a WHERE a.n > (SELECT avg(n) FROM t) AND a.c IN (SELECT c FROM t WHERE n > 20);
WITH t AS (SELECT c_nationkey AS k, o_orderkey AS o FROM customer JOIN orders ON c_custkey = o_custkey)
SELECT a.k, count(*) FROM t a JOIN t b ON a.o = b.o GROUP BY a.k;
WITH t AS (SELECT c_nationkey AS k, o_orderkey AS o FROM customer JOIN orders ON c_custkey = o_custkey)
SELECT count(*) FROM t a LEFT JOIN t b ON a.o = b.o + 7 WHERE b.o IS NULL;
WITH t AS (SELECT l_suppkey AS s, l_partkey AS p, sum(l_extendedprice) AS e FROM lineitem GROUP BY 1, 2),
     u AS (SELECT s, max(e) AS m FROM t GROUP BY s)
SELECT t.s, t.p, t.e FROM t JOIN u ON t.s = u.s AND t.e = u.m;
WITH v AS (SELECT o_custkey AS c, o_orderdate AS d, sum(o_totalprice) AS s,
                  rank() OVER (PARTITION BY o_custkey ORDER BY o_orderdate) AS r
           FROM orders GROUP BY o_custkey, o_orderdate)
SELECT a.c, a.d, a.s, b.s, e.s FROM v a, v b, v e
WHERE a.c = b.c AND a.c = e.c AND a.r = b.r + 1 AND a.r = e.r - 1;
SELECT count(*) FROM (SELECT l_partkey FROM lineitem GROUP BY l_partkey) a, (SELECT l_partkey FROM lineitem GROUP BY l_partkey) b
WHERE a.l_partkey = b.l_partkey;
WITH t AS (SELECT o_orderkey AS o, o_custkey AS c FROM orders WHERE o_totalprice > 100000)
SELECT (SELECT count(*) FROM t), (SELECT count(DISTINCT c) FROM t), (SELECT max(o) FROM t);
WITH t AS (SELECT l_returnflag AS f, l_linestatus AS s, avg(l_discount) AS d FROM lineitem GROUP BY 1, 2)
SELECT * FROM t EXCEPT SELECT * FROM t WHERE f = 'A';
WITH t AS (SELECT l_returnflag AS f, l_linestatus AS s, avg(l_discount) AS d FROM lineitem GROUP BY 1, 2)
SELECT f, s FROM t INTERSECT SELECT f, s FROM t;
WITH t AS (SELECT DISTINCT o_orderpriority AS p FROM orders)
SELECT a.p, b.p FROM t a CROSS JOIN t b;
WITH t AS (SELECT o_orderkey AS o, o_custkey AS c FROM orders ORDER BY o_orderkey LIMIT 50)
SELECT a.o, b.c FROM t a JOIN t b ON a.o = b.o;
