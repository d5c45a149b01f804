//! Arrays of every container type, for tests. The tests of the codec include this file too.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, GenericListArray, Int32Array, MapArray, StructArray, UnionArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, UnionFields};

fn field(name: &str, array: &ArrayRef) -> FieldRef {
    Arc::new(Field::new(name, array.data_type().clone(), true))
}

/// Four `values` in a container of every type except list views. Lists and maps have two rows, all others four.
pub(crate) fn containers(values: &ArrayRef) -> Vec<ArrayRef> {
    let item = field("element", values);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 1, 4]));
    let large = OffsetBuffer::new(ScalarBuffer::from(vec![0_i64, 1, 4]));
    let pairs = StructArray::from(vec![
        (Arc::new(Field::new("k", DataType::Int32, false)), Arc::new(Int32Array::from(vec![1, 2, 3, 4])) as ArrayRef),
        (field("v", values), Arc::clone(values)),
    ]);
    let entries = Arc::new(Field::new("entries", pairs.data_type().clone(), false));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7, 8, 9, 10]));
    let members = || vec![Arc::clone(values), Arc::clone(&numbers)];
    let fields = || -> UnionFields { [(3, field("w", values)), (5, field("n", &numbers))].into_iter().collect() };
    let ids = ScalarBuffer::from(vec![3_i8, 5, 3, 5]);
    let places = ScalarBuffer::from(vec![1, 0, 2, 3]);
    vec![
        Arc::new(
            GenericListArray::<i32>::try_new(Arc::clone(&item), offsets.clone(), Arc::clone(values), None)
                .expect("lists"),
        ),
        Arc::new(GenericListArray::<i64>::try_new(Arc::clone(&item), large, Arc::clone(values), None).expect("lists")),
        Arc::new(FixedSizeListArray::try_new(Arc::clone(&item), 2, Arc::clone(values), None).expect("lists")),
        Arc::new(pairs.clone()),
        Arc::new(MapArray::try_new(entries, offsets, pairs, None, false).expect("a map")),
        Arc::new(UnionArray::try_new(fields(), ids.clone(), None, members()).expect("a sparse union")),
        Arc::new(UnionArray::try_new(fields(), ids, Some(places), members()).expect("a dense union")),
    ]
}
