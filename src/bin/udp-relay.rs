//! `udp-relay`; see [`udp_tools::tools::relay`].

#![cfg_attr(all(target_os = "linux", target_env = "gnu", not(test)), no_main)]

udp_tools::main!(udp_tools::tools::relay::main);
