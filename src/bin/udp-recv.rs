//! `udp-recv`; see [`udp_tools::tools::recv`].

#![cfg_attr(all(target_os = "linux", target_env = "gnu", not(test)), no_main)]

udp_tools::main!(udp_tools::tools::recv::main);
