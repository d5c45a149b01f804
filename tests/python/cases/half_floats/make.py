import os, sys
D = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data')
os.makedirs(D, exist_ok=True)
import pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({'id': pa.array(range(10), pa.int64()), 'h': pa.array([float(i) for i in range(9)] + [None], pa.float32()).cast(pa.float16())}), f'{D}/t.parquet')
