//! The numbers of the messages (`ofp_type`, OpenFlow 1.3.5 §7.1.1).

pub const HELLO: u8 = 0;
pub const ERROR: u8 = 1;
pub const ECHO_REQUEST: u8 = 2;
pub const ECHO_REPLY: u8 = 3;
pub const FEATURES_REQUEST: u8 = 5;
pub const FEATURES_REPLY: u8 = 6;
pub const SET_CONFIG: u8 = 9;
pub const PACKET_IN: u8 = 10;
pub const PORT_STATUS: u8 = 12;
pub const PACKET_OUT: u8 = 13;
pub const FLOW_MOD: u8 = 14;
pub const MULTIPART_REQUEST: u8 = 18;
pub const MULTIPART_REPLY: u8 = 19;
pub const BARRIER_REQUEST: u8 = 20;
pub const BARRIER_REPLY: u8 = 21;
/// `OFPT_METER_MOD`: the highest.
pub const LAST: u8 = 29;

/// `OFPMP_AGGREGATE`, a type of multipart message.
pub const MULTIPART_AGGREGATE: u16 = 2;
/// `OFPMP_PORT_DESC`, a type of multipart message.
pub const MULTIPART_PORT_DESC: u16 = 13;
/// `OFPMPF_REPLY_MORE`, a flag of multipart messages.
pub const MULTIPART_MORE: u16 = 1;
/// `OFPHET_VERSIONBITMAP`, an element of a hello.
pub const HELLO_BITMAP: u16 = 1;
/// `OFP_NO_BUFFER`.
pub const NO_BUFFER_ID: u32 = 0xffff_ffff;
