-- For `interleaved_scans`: the rows are a tenth of the file, in one piece.
select l_suppkey, count(distinct l_partkey), sum(l_extendedprice * (1 - l_discount)) s
from lineitem where l_orderkey < 6000000 group by l_suppkey order by s desc limit 10
