create external table c63_t stored as parquet location '$FOLDER/data/t.parquet';
select id from c63_t where h > 7;
select id from c63_t where h = arrow_cast(3, 'Float16');
select id, h from c63_t where h in (1, 2.5);
select sum(h), max(h), count(distinct h) from c63_t;
select x, count(*) as n from (select arrow_cast(1.5, 'Float16') as x from c63_t) group by x;
select id, coalesce(h, arrow_cast(9, 'Float16')) as h from c63_t where id > 7;
