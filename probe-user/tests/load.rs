//! tmp
#[test]
fn loads() {
    let r = probe_user::engine::ebpf::object::Object::load(0);
    if let Err(e) = r { panic!("{e:?}"); }
    let r = probe_user::engine::ebpf::object::Object::load(0xff);
    if let Err(e) = r { panic!("{e:?}"); }
}
