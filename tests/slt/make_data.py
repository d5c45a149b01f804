"""Makes the files in `data/`, which are in the repository. Run it only to change them. Needs pyarrow and fastavro."""

import datetime
import decimal
import pathlib

import fastavro
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

DATA = pathlib.Path(__file__).parent / "data"


def parquet(path, columns, **options):
    file = DATA / path
    file.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table(columns), file, store_schema=False, **options)


def ints(*values):
    return pa.array(values, pa.int64())


def main():
    points = {
        "id": ints(1, 2, 3),
        "name": pa.array(["one", "two", None]),
        "score": pa.array([1.5, None, -2.0]),
        "day": pa.array([datetime.date(2024, 1, 1), datetime.date(2024, 2, 29), None]),
        "price": pa.array([decimal.Decimal("1.10"), decimal.Decimal("20.00"), None], pa.decimal128(10, 2)),
    }
    parquet("points.parquet", points)
    parquet("empty.parquet", {name: column.slice(0, 0) for name, column in points.items()})
    parquet("many/a.parquet", {"n": ints(*range(10)), "g": pa.array(["x", "y"] * 5)}, row_group_size=4)
    parquet("many/b.parquet", {"n": ints(*range(10, 25)), "g": pa.array(["y", "z", "x"] * 5)}, row_group_size=5)
    parquet("many/c.parquet", {"n": ints(), "g": pa.array([], pa.string())})
    for year, month, values in [(2023, 12, [1, 2]), (2024, 1, [3]), (2024, 2, [4, 5, 6])]:
        parquet(f"parts/year={year}/month={month}/data.parquet", {"v": ints(*values)})
    position = pa.struct([("x", pa.int64()), ("y", pa.int64())])
    nested = {
        "id": ints(1, 2, 3),
        "tags": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
        "pos": pa.array([{"x": 1, "y": 2}, {"x": 3, "y": None}, None], position),
    }
    parquet("nested.parquet", nested)
    colours = pa.array(["red", "green", "red", None, "blue", "red"]).dictionary_encode()
    parquet("dictionary.parquet", {"id": ints(*range(6)), "colour": colours})
    parquet("disagree/a.parquet", {"k": ints(1)})
    parquet("disagree/b.parquet", {"k": pa.array(["one"])})
    parquet("evolved/a.parquet", {"k": ints(1, 2)})
    parquet("evolved/b.parquet", {"k": ints(3), "extra": pa.array(["new"])})
    whole = (DATA / "points.parquet").read_bytes()
    (DATA / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    (DATA / "not_parquet.parquet").write_text("This is not a Parquet file.\n")
    (DATA / "people.csv").write_text('id,name,height,born\n1,Ann,1.70,1990-05-01\n2,"Bob, Jr.",,1985-12-31\n3,,1.80,\n')
    (DATA / "people_semicolon.csv").write_text("1;Ann;true\n2;Bob;false\n")
    (DATA / "empty.csv").write_text("id,name\n")
    (DATA / "broken.csv").write_text("id,n\n1,2\n2,not a number\n")
    events = ['{"id": 1, "kind": "start", "at": {"x": 1}, "tags": ["a"]}', '{"id": 2, "kind": "stop", "at": {"x": null}, "tags": []}', '{"id": 3}']
    (DATA / "events.ndjson").write_text("\n".join(events) + "\n")
    table = pa.table({"id": ints(1, 2), "name": pa.array(["arrow", None])})
    with pa.ipc.new_file(str(DATA / "points.arrow"), table.schema) as file:
        file.write_table(table)
    fields = [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}]
    with open(DATA / "points.avro", "wb") as file:
        rows = [{"id": 1, "name": "avro"}, {"id": 2, "name": None}]
        schema = {"type": "record", "name": "p", "fields": fields}
        fastavro.writer(file, schema, rows, sync_marker=b"hwacha".ljust(16))
    nan = float("nan")
    # `-nan` has the sign bit, like the result of 0.0 / 0.0 on x86 processors.
    values = [-0.0, 0.0, nan, -nan, nan, 1.0, -1.0, float("inf"), float("-inf"), None, 0.0, -0.0, 1.0, -nan, 2.0]
    floats = {
        "id": ints(*range(15)),
        "x": pa.array(values),
        "f": pa.array(values, pa.float32()),
        "g": ints(*[row % 3 for row in range(15)]),
        "l": pa.array([[value] for value in values]),
    }
    parquet("floats.parquet", floats, row_group_size=2)
    values = [0.0, -0.0, -nan, nan, 1.0, None, 2.0, 2.0]
    other = {"id": ints(*range(8)), "y": pa.array(values), "m": pa.array([[value] for value in values])}
    parquet("floats_other.parquet", other, row_group_size=2)
    parquet("ones_and_nan.parquet", {"id": ints(0, 1, 2), "x": pa.array([1.0, nan, 1.0])}, row_group_size=2)
    rows = 2000
    unequal = {
        "a": ints(*[10] * rows, *[1] * rows),
        "b": ints(*[None] * rows, *[7] * rows),
        "c": ints(*[0] * rows, *[100] * rows),
    }
    parquet("unequal.parquet", unequal, row_group_size=rows)
    types_and_directories()


def arrow(path, columns):
    file = DATA / path
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table)


def words(letter, index_type=pa.int8()):
    return pa.array([f"{letter}{n}" for n in range(100)]).cast(pa.dictionary(index_type, pa.string()))


def dictionaries(path, column, **options):
    """Writes a Parquet file that also stores the Arrow schema, because this has the key types of dictionaries."""
    file = DATA / path
    file.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table(column), file, **options)


def types_and_directories():
    dictionaries("small_keys/a.parquet", {"d": words("v"), "n": ints(*range(100))}, row_group_size=30)
    dictionaries("small_keys/b.parquet", {"d": words("w", pa.int16()), "n": ints(*range(100, 200))})
    dictionaries("small_keys_one_group.parquet", {"d": pa.chunked_array([words("x"), words("y"), words("z")])})
    arrow("order/a.arrow", {"a": ints(1, 2), "b": ints(10, 20)})
    arrow("order/b.arrow", {"b": ints(30), "a": ints(3)})
    arrow("order/c.arrow", {"a": ints(4)})
    null_among_values = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), pa.array(["x", None]))
    arrow("null_values.arrow", {"n": ints(1, 2, 3), "d": null_among_values})
    halves = pa.array([1.0, 2.0, 3.0, 2.5, None]).cast(pa.float16())
    parquet("halves.parquet", {"id": ints(1, 2, 3, 4, 5), "h": halves}, row_group_size=2)
    names = ["Seoul", "Sao%20Paulo", "a%2Fb", "__HIVE_DEFAULT_PARTITION__", "100%25", "k%3Dv"]
    for number, name in enumerate(names, 1):
        parquet(f"cities/city={name}/data.parquet", {"v": ints(number)})
    for number, name in enumerate(["01", "2", "__HIVE_DEFAULT_PARTITION__"], 1):
        parquet(f"months/month={name}/data.parquet", {"v": ints(number)})
    parquet("keyed/part=p/data.parquet", {"k": ints(1, 2, 3), "w": ints(7, 7, 8)})
    parquet("nulls_last.parquet", {"a": ints(1, None, None), "b": ints(1, 5, 2)})


main()
