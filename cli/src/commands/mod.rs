//! The operator's commands, one file each: ask, then print.

pub mod analyze;
pub mod apply;
pub mod audit;
pub mod completion;
pub mod config;
pub mod doctor;
pub mod down;
pub mod events;
pub mod exec;
pub mod graph;
pub mod inject;
pub mod inspect;
pub mod jobs;
pub mod limits;
pub mod logs;
pub mod man;
pub mod metrics;
pub mod operate;
pub mod reload;
pub mod routes;
pub mod scale;
pub mod status;
pub mod tasks;
pub mod unit;
pub mod up;
pub mod upgrade;
