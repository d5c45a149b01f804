//! The formats in which rows are printed. Every format except the table prints rows as they arrive.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;

/// The format in which rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns in a frame.
    Table,
    /// Comma-separated values with a header; NULL is empty.
    Csv,
    /// Tab-separated values with a header; NULL is empty.
    Tsv,
    /// One JSON array of objects.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// One column per line.
    Vertical,
    /// Nothing.
    None,
}

/// Rows after which a table is printed. A longer result is printed as several tables, each with its own column widths.
const TABLE_ROWS: usize = 10_000;

pub(super) struct RowPrinter {
    format: Format,
    schema: SchemaRef,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    rows: usize,
    printed: bool,
}

impl RowPrinter {
    pub(super) fn new(format: Format, schema: SchemaRef) -> Self {
        Self { format, schema, waiting: vec![], waiting_rows: 0, rows: 0, printed: false }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Prints rows, or keeps them until there are enough for one table.
    pub(super) fn add(&mut self, batch: RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        match self.format {
            Format::Table => {
                self.waiting_rows += batch.num_rows();
                self.rows += batch.num_rows();
                self.waiting.push(batch);
                if self.waiting_rows >= TABLE_ROWS { self.table(out) } else { Ok(()) }
            }
            Format::Csv => self.separated(&batch, b',', out),
            Format::Tsv => self.separated(&batch, b'\t', out),
            Format::Json | Format::Ndjson => self.json(&batch, out),
            Format::Vertical => self.vertical(&batch, out),
            Format::None => {
                self.rows += batch.num_rows();
                Ok(())
            }
        }
    }

    /// Prints the remaining rows, or the header or bracket that is still missing.
    pub(super) fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.format {
            Format::Table if !self.waiting.is_empty() || !self.printed => self.table(out),
            Format::Csv if !self.printed => self.header(b',', out),
            Format::Tsv if !self.printed => self.header(b'\t', out),
            Format::Json if self.printed => writeln!(out, "]"),
            Format::Json => writeln!(out, "[]"),
            _ => Ok(()),
        }
    }

    fn table(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let batches = std::mem::take(&mut self.waiting);
        self.waiting_rows = 0;
        self.printed = true;
        let batches = if batches.is_empty() { vec![RecordBatch::new_empty(self.schema.clone())] } else { batches };
        let options = options().with_null("NULL");
        let table = arrow::util::pretty::pretty_format_batches_with_options(&batches, &options);
        writeln!(out, "{}", table.map_err(io::Error::other)?)
    }

    fn header(&mut self, delimiter: u8, out: &mut dyn Write) -> io::Result<()> {
        self.separated(&RecordBatch::new_empty(self.schema.clone()), delimiter, out)
    }

    fn separated(&mut self, batch: &RecordBatch, delimiter: u8, out: &mut dyn Write) -> io::Result<()> {
        let builder = arrow::csv::WriterBuilder::new().with_delimiter(delimiter).with_header(!self.printed);
        self.printed = true;
        self.rows += batch.num_rows();
        // The CSV writer would turn an I/O error, such as a closed pipe, into text. So it writes to memory.
        let mut lines = vec![];
        builder.build(&mut lines).write(&flat(batch)?).map_err(into_io)?;
        out.write_all(&lines)
    }

    fn json(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = vec![];
        let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, arrow::json::writer::LineDelimited>(&mut lines);
        writer.write(batch).and_then(|()| writer.finish()).map_err(into_io)?;
        drop(writer);
        self.rows += batch.num_rows();
        if self.format == Format::Ndjson {
            return out.write_all(&lines);
        }
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            out.write_all(if self.printed { b",\n" } else { b"[" })?;
            out.write_all(line)?;
            self.printed = true;
        }
        Ok(())
    }

    fn vertical(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let options = options().with_null("NULL");
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(into_io)?;
        let width = self.schema.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or(0);
        for row in 0..batch.num_rows() {
            self.rows += 1;
            writeln!(out, "-[ row {} ]-", self.rows)?;
            for (field, column) in self.schema.fields().iter().zip(&columns) {
                writeln!(out, "{:>width$}: {}", field.name(), column.value(row))?;
            }
        }
        Ok(())
    }
}

/// The batch with lists, structs and maps converted to text: CSV and TSV have no nested values.
fn flat(batch: &RecordBatch) -> io::Result<RecordBatch> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let column = if field.data_type().is_nested() { text(column)? } else { Arc::clone(column) };
        Ok((field.name().clone(), column))
    });
    let columns = columns.collect::<io::Result<Vec<_>>>()?;
    if columns.is_empty() { Ok(batch.clone()) } else { RecordBatch::try_from_iter(columns).map_err(into_io) }
}

fn text(column: &ArrayRef) -> io::Result<ArrayRef> {
    let options = options();
    let values = ArrayFormatter::try_new(column.as_ref(), &options).map_err(into_io)?;
    let text = |row: usize| column.is_valid(row).then(|| values.value(row).to_string());
    Ok(Arc::new((0..column.len()).map(text).collect::<StringArray>()))
}

fn options() -> FormatOptions<'static> {
    FormatOptions::default().with_display_error(true)
}

fn into_io(error: arrow::error::ArrowError) -> io::Error {
    match error {
        arrow::error::ArrowError::IoError(_, source) => source,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, ListArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn print(format: Format) -> String {
        let numbers = Int32Array::from(vec![Some(1), None]);
        let words = StringArray::from(vec!["a,b", "c"]);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("word", Arc::new(words) as _)]);
        let batch = batch.expect("a batch");
        let mut printer = RowPrinter::new(format, batch.schema());
        let mut out = vec![];
        printer.add(batch, &mut out).expect("vectors take all bytes");
        printer.finish(&mut out).expect("vectors take all bytes");
        assert_eq!(printer.rows(), 2);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_format_has_its_look() {
        assert_eq!(print(Format::Csv), "n,word\n1,\"a,b\"\n,c\n");
        assert_eq!(print(Format::Tsv), "n\tword\n1\ta,b\n\tc\n");
        assert_eq!(print(Format::Json), "[{\"n\":1,\"word\":\"a,b\"},\n{\"n\":null,\"word\":\"c\"}]\n");
        assert_eq!(print(Format::Ndjson), "{\"n\":1,\"word\":\"a,b\"}\n{\"n\":null,\"word\":\"c\"}\n");
        assert_eq!(print(Format::Vertical), "-[ row 1 ]-\n   n: 1\nword: a,b\n-[ row 2 ]-\n   n: NULL\nword: c\n");
        assert_eq!(print(Format::None), "");
        assert!(print(Format::Table).contains("| NULL | c    |"));
    }

    #[test]
    fn nested_values_are_text_between_separators() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let batch = RecordBatch::try_from_iter([("l", Arc::new(lists) as ArrayRef)]).expect("a batch");
        let mut out = vec![];
        RowPrinter::new(Format::Csv, batch.schema()).add(batch, &mut out).expect("vectors take all bytes");
        assert_eq!(String::from_utf8(out).expect("text"), "l\n\"[1, ]\"\n\"\"\n");
    }

    #[test]
    fn empty_answers_keep_their_form() {
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
            "n",
            arrow::datatypes::DataType::Int32,
            true,
        )]));
        for (format, text) in [(Format::Csv, "n\n"), (Format::Json, "[]\n"), (Format::Ndjson, "")] {
            let mut out = vec![];
            RowPrinter::new(format, Arc::clone(&schema)).finish(&mut out).expect("vectors take all bytes");
            assert_eq!(String::from_utf8(out).expect("text"), text);
        }
    }
}
