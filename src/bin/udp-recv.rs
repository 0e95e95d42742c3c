//! `udp-recv`; see [`udp_tools::tools::recv`].

use std::process::ExitCode;

fn main() -> ExitCode {
    udp_tools::tools::recv::main()
}
