-- For `window_limits`: few groups with many rows.
select o_orderpriority, o_orderkey
from (select o_orderpriority, o_orderkey, rank() over (partition by o_orderpriority order by o_totalprice desc) r from orders) t where r <= 3
