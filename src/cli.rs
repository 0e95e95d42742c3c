//! The parts of a command line that the tools share: groups of arguments, the types of values, and the parts of a
//! plan that they become.
//!
//! Each value is parsed into its type here, or is a usage error; nothing is checked later.

mod checks;
pub mod completions;
mod encoding;
pub mod foreign;
mod format;
mod help;
mod input;
mod output;
mod pattern;
mod ready;
mod receiving;
mod report;
mod socket;
pub mod usage;
pub mod value;
mod words;

pub use self::checks::{check_options, check_same_kind, check_unix};
pub use self::encoding::{Choice, DecodingArgs, EncodingArgs, GuessingArgs};
pub use self::format::{
    ConversationArgs, FormatArgs, FormatOption, InputFormatArgs, OutputFormatArgs, conversation,
};
pub use self::input::{EolArgs, InputPlan, MessageArgs, ReadingArgs, RepeatArgs};
pub use self::output::writing;
pub use self::pattern::patterns;
pub use self::ready::ReadyArgs;
pub use self::receiving::{AccessArgs, Bounds, ReceivingArgs, ReceivingPlan};
pub use self::report::{Report, ReportArgs, StatsFormat};
pub use self::socket::{
    BufferArgs, GroupArgs, SendingSocketArgs, SocketArgs, Traffic, first_given, note_memberships,
    prepare_socket,
};
