-- The tables that the other files of this folder query, besides TPC-H at scale 0.01. Run first, on the cluster and on
-- plain DataFusion. Every value follows from a formula, so that both sides hold the same rows:
--   t1: 2,000 rows; k repeats 97 keys and is NULL in one row of 13; g has five groups and NULL.
--   t2: 600 rows; k covers half of t1's keys and more; w is a decimal, at a timestamp.
--   t3: 3,000 rows; four of five have the key 7: skew.
--   t4: no rows, the columns of t1.
-- Keys and numbers are declared nullable (`nullif`): DataFusion trips over outer joins whose filter reads a column that
-- is not. Doubles are multiples of 0.25, so that sums are exact in any order.
create table t1 as
select nullif(n, 0) as id, case when n % 13 = 0 then null else n % 97 end as k,
       case n % 6 when 0 then 'ash' when 1 then 'birch' when 2 then 'cedar' when 3 then 'date' when 4 then 'elm' end as g,
       case when n % 17 = 0 then null else (n * 7919) % 1000 end as x, (n % 400) * 0.25 - 25.0 as y,
       date '2024-01-01' + arrow_cast(n % 366, 'Int32') as d, n % 3 = 0 as f
from generate_series(1, 2000) t(n);

create table t2 as
select nullif(n, 0) as id, case when n % 19 = 0 then null else (n * 2) % 194 end as k,
       concat('name-', cast(n % 50 as varchar)) as name, nullif(cast(n * 3 % 1000 as decimal(12, 2)) / cast(4 as decimal(3, 0)), -1) as w,
       to_timestamp_seconds(1704067200 + n * 3600) as at
from generate_series(1, 600) t(n);

create table t3 as
select nullif(n, 0) as id, case when n % 5 < 4 then 7 else n % 60 end as k, n % 11 as v, repeat(chr(97 + arrow_cast(n % 26, 'Int64')), 3) as s
from generate_series(1, 3000) t(n);

create table t4 as select * from t1 where id < 0;
