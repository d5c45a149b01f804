//! The changes that the scheduler makes to a planned stage. EXPLAIN ANALYZE shows their text.

use std::fmt;

use crate::ids::StageId;

/// A change to a stage, made before its first attempt or when no consumer needs its rows any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adaptation {
    /// Fewer tasks than planned share the work.
    Shrunk { tasks: u32, planned: u32, input_bytes: u64 },
    /// The stage does not run: it would have no rows, because `input` has no rows.
    Empty { input: StageId },
    /// The stage does not run, because none of its consumers runs.
    Unread,
    /// The tasks of the stage are stopped, because no consumer needs more rows. Example: the consumer reached its
    /// LIMIT.
    Stopped,
    /// Every task of the stage reads the whole build side of its join, not only its own hash partitions.
    Broadcast { build: StageId, build_bytes: u64 },
    /// The stage is the probe side of a join whose tasks read the whole build side. So it does not hash its rows:
    /// each task keeps them in its own partitions.
    Unhashed { join: StageId },
    /// All tasks of the stage share the heavy partitions of the probe side of its join.
    Split { partitions: u32, bytes: u64, probe: StageId, probe_bytes: u64 },
}

impl Adaptation {
    /// The new task count of the stage; `None` if the change keeps the task count.
    pub fn tasks(&self) -> Option<u32> {
        match self {
            Self::Shrunk { tasks, .. } => Some(*tasks),
            Self::Empty { .. } | Self::Unread => Some(0),
            Self::Stopped | Self::Broadcast { .. } | Self::Unhashed { .. } | Self::Split { .. } => None,
        }
    }
}

impl fmt::Display for Adaptation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shrunk { tasks, planned, input_bytes } => {
                write!(f, "{tasks} of {planned} tasks, since its inputs have {input_bytes} bytes")
            }
            Self::Empty { input } => write!(f, "not run, since stage {input} has no rows"),
            Self::Unread => f.write_str("not run, since nothing reads it"),
            Self::Stopped => f.write_str("stopped, since its consumers need no more rows"),
            Self::Broadcast { build, build_bytes } => {
                write!(f, "each task reads the whole build side, since stage {build} has only {build_bytes} bytes")
            }
            Self::Unhashed { join } => {
                write!(f, "rows are not hashed, since each task of stage {join} reads the whole build side")
            }
            Self::Split { partitions, bytes, probe, probe_bytes } => {
                let large = match partitions {
                    1 => "large partition of the probe side, which has",
                    _ => "large partitions of the probe side, which have",
                };
                write!(f, "all tasks share {partitions} {large} {bytes} of the {probe_bytes} bytes of stage {probe}")
            }
        }
    }
}
