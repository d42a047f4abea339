//! The images that other stories use are what they say, by the word of sfdisk and e2fsck.
use blackbox::image;
use blackbox::{Tool, needs};

#[test]
fn images_are_as_stock_tools_make_them() {
    if !needs("images", &["sfdisk", "mkfs.ext4", "e2fsck"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (gpt, mbr) = (dir.path().join("gpt.img"), dir.path().join("mbr.img"));
    let data = image::gpt(dir.path(), &gpt);
    let (five, six) = image::mbr(dir.path(), &mbr);
    let table = Tool::new("sfdisk").arg("-d").arg(&mbr).ok();
    for partition in [&five, &six] {
        let line = table
            .lines()
            .find(|l| l.contains(&format!("mbr.img{}", partition.number)));
        let line = line.unwrap_or_else(|| panic!("sfdisk shows no partition {}:\n{table}", partition.number));
        assert!(
            line.contains(&format!(
                "start={:>12}, size={:>12}",
                partition.start / 512,
                partition.size / 512
            )),
            "{line}"
        );
        image::fsck(dir.path(), &mbr, partition);
    }
    image::fsck(dir.path(), &gpt, &data);
    Tool::new("sfdisk").arg("--verify").arg(&gpt).ok();
}
