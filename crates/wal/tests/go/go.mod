module waltool

go 1.24
