create external table c62_t stored as parquet location '$FOLDER/data/t.parquet';
select id, l from c62_t where id < 3;
select l, count(*) from c62_t where id < 2 group by l;
select id, s from c62_t where id = 3;
select arrow_cast([1, 2], 'LargeList(Int64)') as x;
select id, unnest(l) as e from c62_t where id = 2;
