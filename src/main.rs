fn main() {
    println!("lea");
}
