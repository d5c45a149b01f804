create external table c31_t(v bigint) stored as parquet partitioned by (city varchar) location '$FOLDER/data/t/';
select city, sum(v) from c31_t group by city;
select v from c31_t where city = 'Sao Paulo';
select v from c31_t where city = 'a/b';
select v from c31_t where city is null;
select v from c31_t where city <> 'Seoul' and city <> 'x';
select count(*) from c31_t where city = '100%';
create external table c31_i(v bigint) stored as parquet partitioned by (n int) location '$FOLDER/data/i/';
select n, v from c31_i;
