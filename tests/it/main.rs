//! What a user sees of the tools: real binaries, real sockets, a module a subject.

#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod harness;

mod access;
mod answer;
mod ask;
mod bad_input;
#[cfg(target_os = "linux")]
mod brokers;
mod captures;
mod charsets;
mod chat;
mod chat_charsets;
mod chat_pipes;
#[cfg(target_os = "linux")]
mod chat_programs;
#[cfg(target_os = "linux")]
mod chat_terminals;
mod commands;
#[cfg(target_os = "linux")]
mod comparison;
mod completions;
mod cookbook;
mod coprocess;
mod counts;
mod details;
#[cfg(target_os = "linux")]
mod editing;
mod endpoints;
mod engine;
#[cfg(target_os = "linux")]
mod expect;
mod faults;
mod formats;
mod headers;
mod help;
mod impair;
mod in_flight;
mod listen;
#[cfg(target_os = "linux")]
mod load;
mod manual;
mod matcher;
#[cfg(target_os = "linux")]
mod multicast;
mod netcats;
mod network;
mod one_way;
mod pace;
#[cfg(target_os = "linux")]
mod paths;
#[cfg(target_os = "linux")]
mod peer_drops;
mod peers;
#[cfg(target_os = "linux")]
mod picture;
mod pipes;
mod probes;
mod readme;
mod ready;
mod recv;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod relay_record;
#[cfg(target_os = "linux")]
mod resolver;
#[cfg(target_os = "linux")]
mod restoring;
mod rooms;
#[cfg(target_os = "linux")]
mod screen;
#[cfg(target_os = "linux")]
mod security;
mod send;
mod sessions;
mod sharing;
mod soak;
mod statistics;
mod streams;
mod terminal;
#[cfg(target_os = "linux")]
mod unix;
mod wanted;
