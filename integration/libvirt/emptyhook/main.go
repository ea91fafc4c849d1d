// Command emptyhook is a hook that does nothing, for what any Go program costs as one.
package main

func main() {}
