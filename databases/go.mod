module github.com/resellerkit/credit/databases

go 1.26.0

replace github.com/resellerkit/credit => ..
