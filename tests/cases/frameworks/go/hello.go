package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprint(answer, "hello from go") })
	panic(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
