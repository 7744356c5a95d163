module bench/goka

go 1.25.0

require (
	github.com/IBM/sarama v1.61.1
	github.com/lovoo/goka v1.1.16
	github.com/syndtr/goleveldb v1.0.0
)
