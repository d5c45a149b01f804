//! Replaces parts of a type by other types, and converts arrays of the old type to the new type and back.
//!
//! Arrow's `cast` does this for most types. But it cannot cast to a union. It matches the fields of structs by name,
//! although a name may occur twice. When it casts a dictionary of texts to views, it turns a NULL among the values of
//! the dictionary into an empty text (`view_from_dict_values` in arrow-cast 59). Here parts are matched by position, at
//! every depth.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, GenericListViewArray, Int64Array, MapArray,
    OffsetSizeTrait, StructArray, UInt64Array, UnionArray, make_array,
};
use arrow::compute::{CastOptions, cast, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, internal_err};

/// Replaces each part of `data_type`, from the outside in, as long as `change` gives another type for it. Example: if
/// `change` replaces a dictionary by its values, `List(Dictionary(Int8, Utf8))` becomes `List(Utf8)`.
pub fn replaced(data_type: &DataType, change: &impl Fn(&DataType) -> Option<DataType>) -> DataType {
    let mut data_type = data_type.clone();
    while let Some(next) = change(&data_type) {
        data_type = next;
    }
    let field = |field: &FieldRef| replaced_field(field, change);
    match &data_type {
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::ListView(item) => DataType::ListView(field(item)),
        DataType::LargeListView(item) => DataType::LargeListView(field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Union(fields, mode) => {
            DataType::Union(fields.iter().map(|(id, member)| (id, field(member))).collect(), *mode)
        }
        DataType::RunEndEncoded(ends, values) => DataType::RunEndEncoded(Arc::clone(ends), field(values)),
        DataType::Dictionary(keys, values) => DataType::Dictionary(keys.clone(), Box::new(replaced(values, change))),
        plain => plain.clone(),
    }
}

/// The field with the type that [`replaced`] makes of its type. Name, metadata and nullability stay.
pub fn replaced_field(field: &FieldRef, change: &impl Fn(&DataType) -> Option<DataType>) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(replaced(field.data_type(), change)))
}

/// Whether `is_such` holds for `data_type` or for any part of it.
pub fn holds(data_type: &DataType, is_such: &impl Fn(&DataType) -> bool) -> bool {
    let field = |field: &FieldRef| holds(field.data_type(), is_such);
    is_such(data_type)
        || match data_type {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _)
            | DataType::RunEndEncoded(_, item) => field(item),
            DataType::Struct(fields) => fields.iter().any(field),
            DataType::Union(fields, _) => fields.iter().any(|(_, member)| field(member)),
            DataType::Dictionary(_, values) => holds(values, is_such),
            _ => false,
        }
}

/// The values of `array` as an array of type `to`. One of the two types was made from the other by [`replaced`].
///
/// # Errors
///
/// The types cannot be converted in this way, or a value does not fit: a text is too long for the offsets of its new
/// type, or a dictionary has too many values for its new keys.
pub fn converted(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    use DataType::*;
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    match (from, to) {
        (Dictionary(_, inner), _) if matches!(**inner, Dictionary(..)) => converted(&unpacked(array)?, to),
        (Dictionary(..), Dictionary(keys, values)) if matches!(**values, Dictionary(..)) => nested(array, keys, values),
        (Dictionary(own, _), Dictionary(keys, values)) => {
            let dictionary = array.as_any_dictionary();
            let same_keys = dictionary.with_values(converted(dictionary.values(), values)?);
            if own == keys { Ok(same_keys) } else { Ok(strictly_cast(&same_keys, to)?) }
        }
        (Dictionary(..), _) => {
            let dictionary = array.as_any_dictionary();
            if dictionary.values().len() > array.len() {
                return converted(&unpacked(array)?, to);
            }
            Ok(take(&converted(dictionary.values(), to)?, dictionary.keys(), None)?)
        }
        (RunEndEncoded(..), RunEndEncoded(_, values)) => runs(array, to, values.data_type()),
        (RunEndEncoded(_, values), _) => converted(&cast(array, values.data_type())?, to),
        (List(_), List(item)) => list::<i32>(array, item),
        (LargeList(_), LargeList(item)) => list::<i64>(array, item),
        (ListView(_), ListView(item)) => list_view::<i32>(array, item),
        (LargeListView(_), LargeListView(item)) => list_view::<i64>(array, item),
        (ListView(item), List(_)) => converted(&cast(array, &List(Arc::clone(item)))?, to),
        (LargeListView(item), LargeList(_)) => converted(&cast(array, &LargeList(Arc::clone(item)))?, to),
        (FixedSizeList(..), FixedSizeList(item, length)) => {
            let list = array.as_fixed_size_list();
            let values = converted(list.values(), item.data_type())?;
            let nulls = list.nulls().cloned();
            let item = Arc::clone(item);
            Ok(Arc::new(FixedSizeListArray::try_new_with_length(item, *length, values, nulls, array.len())?))
        }
        (Struct(_), Struct(_)) => Ok(Arc::new(structure(array.as_struct(), to)?)),
        (Map(..), Map(entries, sorted)) => {
            let map = array.as_map();
            let pairs = structure(map.entries(), entries.data_type())?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?))
        }
        (Union(..), Union(fields, _)) => {
            let union = array.as_union();
            let member = |(id, field): (i8, &FieldRef)| converted(union.child(id), field.data_type());
            let members = fields.iter().map(member).collect::<Result<_>>()?;
            let (ids, offsets) = (union.type_ids().clone(), union.offsets().cloned());
            Ok(Arc::new(UnionArray::try_new(fields.clone(), ids, offsets, members)?))
        }
        _ => Ok(strictly_cast(array, to)?),
    }
}

/// A cast that fails if a value does not fit into the new type.
fn strictly_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })?)
}

/// A dictionary's values, row by row.
fn unpacked(array: &ArrayRef) -> Result<ArrayRef> {
    let dictionary = array.as_any_dictionary();
    Ok(take(dictionary.values(), dictionary.keys(), None)?)
}

/// A dictionary as a dictionary of dictionaries, with outer keys of type `keys` and an inner dictionary of type
/// `values`.
///
/// Example: the rows `a, b, a` become the inner dictionary `a, b`, to which the outer keys `0, 1, 0` point.
fn nested(array: &ArrayRef, keys: &DataType, values: &DataType) -> Result<ArrayRef> {
    let inner = converted(array, values)?;
    let own = cast(inner.as_any_dictionary().keys(), &DataType::Int64)?;
    let mut rows = vec![];
    let mut places = HashMap::new();
    let mut place = |row: usize, key: i64| {
        *places.entry(key).or_insert_with(|| {
            rows.push(row as u64);
            rows.len() as i64 - 1
        })
    };
    let outer: Int64Array =
        own.as_primitive::<Int64Type>().iter().enumerate().map(|(row, key)| Some(place(row, key?))).collect();
    let once = take(&inner, &UInt64Array::from(rows), None)?;
    let outer: ArrayRef = Arc::new(outer);
    let outer = strictly_cast(&outer, keys)?.to_data();
    let data_type = DataType::Dictionary(Box::new(keys.clone()), Box::new(values.clone()));
    Ok(make_array(outer.into_builder().data_type(data_type).child_data(vec![once.to_data()]).build()?))
}

fn runs(array: &ArrayRef, to: &DataType, values: &DataType) -> Result<ArrayRef> {
    let data = array.to_data();
    let [ends, old] = data.child_data() else { return internal_err!("runs come with their ends and values") };
    let new = converted(&make_array(old.clone()), values)?.to_data();
    let children = vec![ends.clone(), new];
    Ok(make_array(data.into_builder().data_type(to.clone()).child_data(children).build()?))
}

fn list<O: OffsetSizeTrait>(array: &ArrayRef, item: &FieldRef) -> Result<ArrayRef> {
    let list = array.as_list::<O>();
    let values = converted(list.values(), item.data_type())?;
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    Ok(Arc::new(GenericListArray::<O>::try_new(Arc::clone(item), offsets, values, nulls)?))
}

fn list_view<O: OffsetSizeTrait>(array: &ArrayRef, item: &FieldRef) -> Result<ArrayRef> {
    let list = array.as_list_view::<O>();
    let values = converted(list.values(), item.data_type())?;
    let (offsets, sizes, nulls) = (list.offsets().clone(), list.sizes().clone(), list.nulls().cloned());
    Ok(Arc::new(GenericListViewArray::<O>::try_new(Arc::clone(item), offsets, sizes, values, nulls)?))
}

fn structure(array: &StructArray, to: &DataType) -> Result<StructArray> {
    let DataType::Struct(fields) = to else { return internal_err!("a struct cannot become a {to}") };
    if fields.len() != array.num_columns() {
        return internal_err!("a struct of {} fields cannot become a {to}", array.num_columns());
    }
    let columns = array.columns().iter().zip(fields).map(|(column, field)| converted(column, field.data_type()));
    let columns = columns.collect::<Result<_>>()?;
    Ok(StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len())?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int8Array, ListViewArray, StringArray, StringViewArray};
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::{Int8Type, Int32Type};

    use super::*;
    use crate::containers::containers;

    /// Plain texts in place of views and dictionaries, and lists in place of their views.
    fn plain(data_type: &DataType) -> Option<DataType> {
        match data_type {
            DataType::Utf8View => Some(DataType::Utf8),
            DataType::Dictionary(_, values) => Some(DataType::clone(values)),
            DataType::RunEndEncoded(_, values) => Some(values.data_type().clone()),
            DataType::ListView(item) => Some(DataType::List(Arc::clone(item))),
            _ => None,
        }
    }

    fn plainly(array: &ArrayRef) -> ArrayRef {
        converted(array, &replaced(array.data_type(), &plain)).expect("there is a way")
    }

    /// The rows `a, NULL, b, a`, in which one NULL is among the dictionary's values.
    fn words() -> ArrayRef {
        let values: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None, Some("b")]));
        Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(vec![0, 1, 2, 0]), values))
    }

    fn plain_words() -> ArrayRef {
        Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]))
    }

    #[test]
    fn parts_at_every_depth_are_converted() {
        for (special, expected) in containers(&words()).iter().zip(containers(&plain_words())) {
            assert_eq!(&plainly(special), &expected, "{}", special.data_type());
            for (special, expected) in deeper(special).iter().zip(deeper(&expected)) {
                assert_eq!(&plainly(special), &expected, "{}", special.data_type());
            }
        }
    }

    /// Containers of containers. They take four values, so a container of two rows is repeated.
    fn deeper(array: &ArrayRef) -> Vec<ArrayRef> {
        let four = UInt64Array::from((0..4).map(|row| row % array.len() as u64).collect::<Vec<_>>());
        containers(&take(array, &four, None).expect("rows that there are"))
    }

    #[test]
    fn null_among_the_values_is_null() {
        assert_eq!(&plainly(&words()), &plain_words());
        let few = words().slice(1, 1);
        assert_eq!(&plainly(&few), &plain_words().slice(1, 1), "with more values than rows");
    }

    #[test]
    fn views_of_lists_become_lists() {
        let values = words();
        let (offsets, sizes) = (ScalarBuffer::from(vec![2, 0]), ScalarBuffer::from(vec![2, 1]));
        let item = Arc::new(Field::new("element", values.data_type().clone(), true));
        let views: ArrayRef = Arc::new(ListViewArray::try_new(item, offsets, sizes, values, None).expect("views"));
        let lists = plainly(&views);
        let rows: Vec<_> = lists.as_list::<i32>().iter().flatten().collect();
        assert_eq!(rows, [plain_words().slice(2, 2), plain_words().slice(0, 1)]);
    }

    #[test]
    fn dictionaries_of_dictionaries_are_made_again() {
        let inner = words();
        let keys = Int8Array::from(vec![Some(3), Some(1), None, Some(0), Some(2)]);
        let twofold: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(keys, inner));
        let flat = converted(&twofold, &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View)));
        let flat = flat.expect("there is a way");
        let again = converted(&flat, twofold.data_type()).expect("there is a way back");
        assert_eq!(again.data_type(), twofold.data_type());
        let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, None, Some("a"), Some("b")]));
        assert_eq!(&plainly(&again), &expected);
    }

    #[test]
    fn keys_that_have_no_place_are_an_error() {
        let words: DictionaryArray<Int32Type> =
            (0..200).map(|n| n.to_string()).collect::<Vec<_>>().iter().map(|word| Some(word.as_str())).collect();
        let narrow = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        assert!(converted(&(Arc::new(words) as ArrayRef), &narrow).is_err());
    }
}
