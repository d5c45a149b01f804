-- For `ranges`: a ranking of all rows.
select sum(r % 7), count(*) from (select rank() over (order by o_totalprice) r from orders) t where r % 1000 = 0
