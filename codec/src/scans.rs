//! Encodes scans of files: DataFusion's encoding of the scan without its files, the properties that this encoding
//! leaves out, and the layout.
//!
//! DataFusion's encoding leaves out the compression, the terminator of CSV lines, whether Arrow data has no footer,
//! and whether files are read in order. A scan is refused if DataFusion's encoding changes a value of a partition
//! column. No type that a table can declare for a partition column has such values.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::{GetExt, Result, internal_datafusion_err, internal_err, not_impl_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{self, PhysicalPlanNode};
use hwacha_operators::key_ranges::KeyRanges;
use hwacha_operators::scalars::survives;
use hwacha_operators::scan::{FilePart, FileRows, PlacedScanExec, ScanLayout, file_scan};
use hwacha_proto::exchange as wire;
use hwacha_proto::exchange::file_part::Rows;
use hwacha_proto::exchange::plan_node::Node;
use prost::Message;

use super::parts::malformed;

/// The file type of DataFusion's source for Arrow data without a footer.
const ARROW_STREAM: &str = "arrow_stream";

pub(super) fn encode(
    scan: &FileScanConfig,
    layout: &ScanLayout,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<wire::ScanNode> {
    let mut without_files = FileScanConfigBuilder::from(scan.clone()).with_file_groups(vec![]);
    if layout.ranges.is_some() {
        without_files = without_files.with_output_partitioning(None);
    }
    let without_files = DataSourceExec::from_data_source(without_files.build());
    let encoded = PhysicalPlanNode::try_from_physical_plan_with_converter(without_files, codec, converter)?;
    let source = scan.file_source();
    Ok(wire::ScanNode {
        scan: encoded.encode_to_vec(),
        layout: Some(encode_layout(layout)?),
        compression: scan.file_compression_type.get_ext().trim_start_matches('.').to_owned(),
        csv_terminator: source.downcast_ref::<CsvSource>().and_then(CsvSource::terminator).map(u32::from),
        arrow_stream: source.file_type() == ARROW_STREAM,
        // A scan with an output ordering reads its files in order anyway.
        keeps_order: scan.preserve_order && scan.output_ordering.is_empty(),
    })
}

/// Decodes `proto` if [`encode`] wrote it. `None` for other operators. `context` must be the context of the operators
/// above: it has the results of scalar subqueries, which a scan's predicate may read.
pub(super) fn decode(
    proto: &PhysicalPlanNode,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(PhysicalPlanType::Extension(extension)) = &proto.physical_plan_type else { return Ok(None) };
    let node = wire::PlanNode::decode(extension.node.as_slice()).map_err(malformed)?;
    let Some(Node::Scan(node)) = node.node else { return Ok(None) };
    let plan = PhysicalPlanNode::decode(node.scan.as_slice()).map_err(malformed)?;
    let plan = converter.proto_to_execution_plan(&plan, context)?;
    let scan = file_scan(&plan).ok_or_else(|| internal_datafusion_err!("{} is no scan of files", plan.name()))?;
    let layout = node.layout.as_ref().ok_or_else(|| internal_datafusion_err!("a scan came without a layout"))?;
    Ok(Some(Arc::new(PlacedScanExec::new(&with_rest(scan, &node)?, decode_layout(layout)?)?)))
}

fn with_rest(scan: &FileScanConfig, node: &wire::ScanNode) -> Result<FileScanConfig> {
    let mut source = Arc::clone(scan.file_source());
    if let Some(csv) = source.downcast_ref::<CsvSource>() {
        source = Arc::new(csv.with_terminator(node.csv_terminator.map(|byte| byte as u8)));
    } else if node.arrow_stream {
        let stream = ArrowSource::new_stream_file_source(source.table_schema().clone());
        source = match source.projection() {
            Some(projection) => stream.try_pushdown_projection(projection)?.unwrap_or_else(|| Arc::new(stream)),
            None => Arc::new(stream),
        };
    }
    Ok(FileScanConfigBuilder::from(scan.clone())
        .with_source(source)
        .with_preserve_order(scan.preserve_order || node.keeps_order)
        .with_file_compression_type(FileCompressionType::from_str(&node.compression)?)
        .build())
}

fn encode_layout(layout: &ScanLayout) -> Result<wire::ScanLayout> {
    let file = |file: &PartitionedFile| match file.partition_values.iter().find(|value| !survives(value)) {
        Some(value) => not_impl_err!("partition columns of type {} are not supported", value.data_type()),
        None => Ok(protobuf::PartitionedFile::try_from(file)?.encode_to_vec()),
    };
    let parts = |parts: &Vec<FilePart>| wire::PartitionLayout { parts: parts.iter().map(encode_part).collect() };
    let ranges = |ranges: &KeyRanges| match ranges.key.downcast_ref::<Column>() {
        Some(key) => Ok(wire::ColumnRanges {
            name: key.name().to_owned(),
            column: key.index() as u32,
            bounds: ranges.bounds.to_vec(),
        }),
        None => internal_err!("only columns have ranges, not {}", ranges.key),
    };
    Ok(wire::ScanLayout {
        files: layout.files.iter().map(file).collect::<Result<_>>()?,
        partitions: layout.partitions.iter().map(parts).collect(),
        tasks: layout.tasks as u32,
        ranges: layout.ranges.as_ref().map(ranges).transpose()?,
        entity_tags: layout.files.iter().map(|file| file.object_meta.e_tag.clone().unwrap_or_default()).collect(),
    })
}

fn encode_part(part: &FilePart) -> wire::FilePart {
    let rows = match &part.rows {
        FileRows::All => None,
        FileRows::Bytes(bytes) => Some(Rows::Bytes(wire::ByteRange { start: bytes.start, end: bytes.end })),
        FileRows::Numbers { runs, of } => {
            let runs = runs.iter().flat_map(|run| [run.start as u64, run.end as u64]).collect();
            Some(Rows::Numbers(wire::RowNumbers { runs, of: *of as u64 }))
        }
    };
    wire::FilePart { file: part.file as u32, rows, has_other_keys: part.has_other_keys }
}

fn decode_layout(layout: &wire::ScanLayout) -> Result<ScanLayout> {
    let file = |(file, tag): (&Vec<u8>, &String)| {
        let file = protobuf::PartitionedFile::decode(file.as_slice()).map_err(malformed)?;
        let mut file = PartitionedFile::try_from(&file)?;
        file.object_meta.e_tag = Some(tag.clone()).filter(|tag| !tag.is_empty());
        Ok(file)
    };
    if layout.files.len() != layout.entity_tags.len() {
        return internal_err!("{} files of a scan have {} tags", layout.files.len(), layout.entity_tags.len());
    }
    let files: Vec<_> = layout.files.iter().zip(&layout.entity_tags).map(file).collect::<Result<_>>()?;
    let part = |part: &wire::FilePart| match (part.file as usize) < files.len() {
        true => decode_part(part),
        false => internal_err!("there is no file {} in the layout of a scan", part.file),
    };
    let partition = |partition: &wire::PartitionLayout| partition.parts.iter().map(part).collect::<Result<_>>();
    let partitions: Vec<_> = layout.partitions.iter().map(partition).collect::<Result<_>>()?;
    let tasks = layout.tasks as usize;
    if tasks == 0 || !partitions.len().is_multiple_of(tasks) {
        return internal_err!("{} partitions of a scan cannot be shared by {tasks} tasks", partitions.len());
    }
    let ranges = layout.ranges.as_ref().map(|ranges| KeyRanges {
        key: Arc::new(Column::new(&ranges.name, ranges.column as usize)),
        bounds: ranges.bounds.clone().into(),
    });
    Ok(ScanLayout { partitions, files, tasks, ranges })
}

fn decode_part(part: &wire::FilePart) -> Result<FilePart> {
    let rows = match &part.rows {
        None => FileRows::All,
        Some(Rows::Bytes(bytes)) => FileRows::Bytes(bytes.start..bytes.end),
        Some(Rows::Numbers(numbers)) => {
            let (pairs, of) = (numbers.runs.chunks_exact(2), numbers.of as usize);
            let runs: Vec<Range<usize>> = pairs.map(|pair| pair[0] as usize..pair[1] as usize).collect();
            let ends = runs.iter().flat_map(|run| [run.start, run.end]).chain([of]);
            if !ends.is_sorted() {
                return internal_err!("rows of a file are not in order: {:?} of {of}", numbers.runs);
            }
            FileRows::Numbers { runs, of }
        }
    };
    Ok(FilePart { file: part.file as usize, rows, has_other_keys: part.has_other_keys })
}
