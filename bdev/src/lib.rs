//! The runtime: devices, disks, modules, tables and the graph they form.
