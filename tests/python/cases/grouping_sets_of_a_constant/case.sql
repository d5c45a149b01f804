create external table c58_t stored as parquet location '$FOLDER/data/t/';
select a, b, count(*) as n from c58_t where a = 0 group by rollup(a, b);
select a, b, sum(c) as n from c58_t where a = 0 group by cube(a, b);
select a, count(*) as n from c58_t where a = 0 group by rollup(a);
select b, a, count(*) as n from (select b, 7 as a from c58_t) group by grouping sets ((b, a), (b), ());
select a, count(*) as n from c58_t where a = 0 group by rollup(a) order by a nulls first;
select a, count(*) as n from c58_t where a = 0 group by rollup(a) order by a nulls last;
select a, b, grouping(a, b) as g, count(*) as n from c58_t where b = 3 group by cube(a, b) order by a nulls first, b nulls first, g, n;
