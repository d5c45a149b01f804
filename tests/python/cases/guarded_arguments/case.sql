create external table c56_t stored as parquet location '$FOLDER/data/t/';
select g, sum(10 / v) filter (where v <> 0) as s from c56_t group by g;
select sum(100 / v) filter (where v <> 0) as s, count(*) as n from c56_t;
select (select sum(100 / v) from c56_t where v > 0) as a, (select count(*) from c56_t where v = 0) as b, (select max(cast(s as int)) from c56_t where g = 1) as c;
select sum(case when v <> 0 then 100 / v end) as s from c56_t;
select id, sum(10 / v) filter (where v <> 0) over (order by id) as s from c56_t where id < 4;
select (select avg(cast(s as int)) from c56_t where g = 1) as a, (select min(length(s)) from c56_t where g = 0) as b;
select count(*) from c56_t where v <> 0 and 100 / v > 20;
with q as (select g, v, s from c56_t) select (select sum(cast(s as bigint)) from q where g = 1) as a, (select count(distinct s) from q where g = 0) as b, (select count(*) from q) as c;
