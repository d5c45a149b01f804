//! What the scheduler changes about a stage once it knows more than the planner did.

use std::fmt;

use crate::ids::StageId;

/// A change to a stage that no task of it had begun with, or whose tasks nobody needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adaptation {
    /// Fewer tasks than planned share the work.
    Shrunk { tasks: u32, planned: u32, input_bytes: u64 },
    /// It does not run: this input has no rows, so it has none either.
    Empty { input: StageId },
    /// It does not run, since nothing that reads it does.
    Unread,
    /// Its tasks are stopped, since all that read it have had enough.
    Stopped,
    /// The build side of its join is read whole by every task.
    Broadcast { build: StageId, build_bytes: u64 },
    /// Its rows stay in their partitions, since the join that reads them has its whole build side everywhere.
    Unhashed { join: StageId },
    /// All tasks of its join share the heavy partitions of the probe side.
    Split { partitions: u32, bytes: u64, probe: StageId, probe_bytes: u64 },
}

impl Adaptation {
    /// How many tasks the stage is left with, if that changes.
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
            Self::Stopped => f.write_str("stopped, since what reads it has had enough"),
            Self::Broadcast { build, build_bytes } => {
                write!(f, "reads all of stage {build} in each task, since that has {build_bytes} bytes")
            }
            Self::Unhashed { join } => {
                write!(f, "rows stay where they are, since stage {join} has its build side everywhere")
            }
            Self::Split { partitions, bytes, probe, probe_bytes } => write!(
                f,
                "all tasks share {partitions} of the partitions, since those have {bytes} of the {probe_bytes} bytes of \
                 stage {probe}"
            ),
        }
    }
}
