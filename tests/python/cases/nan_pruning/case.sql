create external table c12_t stored as parquet location '$FOLDER/data/t.parquet';
select count(*) from c12_t where x > 2.0;
select count(*) from c12_t where x = 1.0;
select count(*) from c12_t where x >= 1.0;
select count(*) from c12_t where x <> 1.0;
select count(*) from c12_t where not (x < 100);
select isnan(max(x)), min(x) from c12_t;
select count(*) from (select x from c12_t order by x desc limit 3) where isnan(x);
