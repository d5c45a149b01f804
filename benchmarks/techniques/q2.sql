-- For `split_partitions`: nine of ten rows of the probe side have the same key.
select count(*), sum(o_totalprice)
from (select case when l_orderkey % 10 < 9 then 1 else l_orderkey end as k from lineitem) l join (select o_orderkey as k, o_totalprice from orders) o on l.k = o.k
