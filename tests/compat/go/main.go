// What every client is asked for, in Go: flows CLIENT BOOTSTRAP, CLIENT one of franz, sarama.
// The first line is "version WHAT"; each flow prints "ok NAME" or "FAIL NAME: WHY".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const count = 300
const limit = 60 * time.Second

var next int

func fresh(what string) string {
	next++
	return fmt.Sprintf("%s-%d-%d", what, os.Getpid(), next)
}

func value(number int) string { return fmt.Sprintf("value %d", number) }

func flow(name string, work func() error) {
	done := make(chan error, 1)
	go func() { done <- work() }()
	var err error
	select {
	case err = <-done:
	case <-time.After(3 * limit):
		err = errors.New("not done in time")
	}
	if err == nil {
		fmt.Printf("ok %s\n", name)
	} else {
		fmt.Printf("FAIL %s: %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
	}
}

func version(module string) {
	info, _ := debug.ReadBuildInfo()
	for _, one := range info.Deps {
		if one.Path == module {
			fmt.Printf("version %s\n", one.Version)
		}
	}
}

func main() {
	bootstrap := strings.Split(os.Args[2], ",")
	switch os.Args[1] {
	case "franz":
		version("github.com/twmb/franz-go")
		franz(bootstrap)
	case "sarama":
		version("github.com/IBM/sarama")
		saramaFlows(bootstrap)
	}
}

func franz(bootstrap []string) {
	ctx := context.Background()
	connect := func(more ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap...)}, more...)...)
	}
	plain, err := connect()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	admin := kadm.NewClient(plain)
	topic := func(partitions int32) (string, error) {
		name := fresh("franz")
		reply, err := admin.CreateTopic(ctx, partitions, 1, nil, name)
		if err == nil {
			err = reply.Err
		}
		return name, err
	}
	send := func(name string, more ...kgo.Opt) error {
		client, err := connect(more...)
		if err != nil {
			return err
		}
		defer client.Close()
		var records []*kgo.Record
		for number := 0; number < count; number++ {
			records = append(records, &kgo.Record{Topic: name, Key: []byte(value(number)), Value: []byte(value(number))})
		}
		return client.ProduceSync(ctx, records...).FirstErr()
	}
	read := func(name, group string, wanted int, more ...kgo.Opt) error {
		options := append([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, more...)
		client, err := connect(options...)
		if err != nil {
			return err
		}
		defer client.Close()
		until, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		found := map[string]bool{}
		total := 0
		for total < wanted {
			fetches := client.PollFetches(until)
			if err := until.Err(); err != nil {
				return fmt.Errorf("%d of %d records", total, wanted)
			}
			if all := fetches.Errors(); len(all) > 0 {
				return all[0].Err
			}
			fetches.EachRecord(func(record *kgo.Record) { found[string(record.Value)] = true; total++ })
		}
		if len(found) != wanted || total != wanted {
			return fmt.Errorf("%d records, %d of them different, for %d", total, len(found), wanted)
		}
		return client.CommitUncommittedOffsets(ctx)
	}
	groups := func(more ...kgo.Opt) error {
		name, err := topic(3)
		group := fresh("group")
		for round := 0; round < 2 && err == nil; round++ {
			if err = send(name); err == nil {
				err = read(name, group, count, more...)
			}
		}
		if err != nil {
			return err
		}
		lags, err := admin.Lag(ctx, group)
		if err != nil {
			return err
		}
		if total := lags[group].Lag.Total(); total != 0 {
			return fmt.Errorf("the lag is %d", total)
		}
		return nil
	}
	flow("produce and consume, every codec", func() error {
		codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(),
			kgo.Lz4Compression(), kgo.ZstdCompression()}
		for _, codec := range codecs {
			name, err := topic(3)
			if err == nil {
				err = send(name, kgo.ProducerBatchCompression(codec))
			}
			if err == nil {
				err = read(name, fresh("group"), count)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	flow("classic group, cooperative-sticky: consume, commit, go on", func() error { return groups() })
	flow("classic group, range", func() error { return groups(kgo.Balancers(kgo.RangeBalancer())) })
	flow("classic group, static member", func() error { return groups(kgo.InstanceID("one")) })
	flow("group of the consumer protocol (KIP-848)", func() error {
		return groups(kgo.WithContext(context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true)))
	})
	flow("admin: groups", func() error {
		name, err := topic(1)
		group := fresh("group")
		if err == nil {
			err = send(name)
		}
		if err == nil {
			err = read(name, group, count)
		}
		if err != nil {
			return err
		}
		listed, err := admin.ListGroups(ctx)
		if err != nil {
			return err
		}
		if _, has := listed[group]; !has {
			return errors.New("it is not listed")
		}
		described, err := admin.DescribeGroups(ctx, group)
		if err == nil {
			err = described[group].Err
		}
		if err != nil {
			return err
		}
		var offsets kadm.Offsets
		offsets.AddOffset(name, 0, 7, -1)
		if err = admin.CommitAllOffsets(ctx, group, offsets); err != nil {
			return err
		}
		deleted, err := admin.DeleteGroup(ctx, group)
		if err == nil {
			err = deleted.Err
		}
		return err
	})
	flow("admin: topics, partitions, configs, offsets, records", func() error {
		name, err := topic(1)
		if err == nil {
			err = send(name)
		}
		if err != nil {
			return err
		}
		created, err := admin.CreatePartitions(ctx, 3, name)
		if err == nil {
			err = created.Error()
		}
		if err != nil {
			return err
		}
		altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("86400000")}}, name)
		if err == nil && len(altered) > 0 {
			err = altered[0].Err
		}
		if err != nil {
			return err
		}
		ends, err := admin.ListEndOffsets(ctx, name)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return err
		}
		if end, _ := ends.Lookup(name, 0); end.Offset != count {
			return fmt.Errorf("the end is %d", end.Offset)
		}
		cut, err := admin.DeleteRecords(ctx, ends.Offsets())
		if err == nil {
			err = cut.Error()
		}
		if err != nil {
			return err
		}
		deleted, err := admin.DeleteTopics(ctx, name)
		if err == nil {
			err = deleted.Error()
		}
		return err
	})
}

// A member of a sarama group, which collects values.
type handler struct {
	lock  sync.Mutex
	found map[string]bool
	total int
	done  chan struct{}
}

func (h *handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(message, "")
			h.lock.Lock()
			h.found[string(message.Value)] = true
			if h.total++; h.total == count {
				close(h.done)
			}
			h.lock.Unlock()
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaFlows(bootstrap []string) {
	settings := func() *sarama.Config {
		config := sarama.NewConfig()
		config.Version = sarama.V4_0_0_0
		config.Producer.Return.Successes = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Consumer.Offsets.Initial = sarama.OffsetOldest
		return config
	}
	admin, err := sarama.NewClusterAdmin(bootstrap, settings())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	topic := func(partitions int32) (string, error) {
		name := fresh("sarama")
		return name, admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false)
	}
	send := func(name string, config *sarama.Config) error {
		producer, err := sarama.NewSyncProducer(bootstrap, config)
		if err != nil {
			return err
		}
		defer producer.Close()
		var messages []*sarama.ProducerMessage
		for number := 0; number < count; number++ {
			messages = append(messages, &sarama.ProducerMessage{Topic: name, Key: sarama.StringEncoder(value(number)), Value: sarama.StringEncoder(value(number))})
		}
		return producer.SendMessages(messages)
	}
	read := func(name, group string) error {
		member, err := sarama.NewConsumerGroup(bootstrap, group, settings())
		if err != nil {
			return err
		}
		until, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		all := &handler{found: map[string]bool{}, done: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- member.Consume(until, []string{name}, all) }()
		select {
		case <-all.done:
			err = nil
		case err = <-ended:
			if err == nil {
				err = fmt.Errorf("the session ended after %d of %d records", all.total, count)
			}
		}
		if closed := member.Close(); err == nil {
			err = closed
		}
		if err == nil && len(all.found) != count {
			err = fmt.Errorf("%d different records", len(all.found))
		}
		return err
	}
	flow("produce and consume, every codec", func() error {
		for codec := sarama.CompressionNone; codec <= sarama.CompressionZSTD; codec++ {
			config := settings()
			config.Producer.Compression = codec
			name, err := topic(3)
			if err == nil {
				err = send(name, config)
			}
			if err == nil {
				err = read(name, fresh("group"))
			}
			if err != nil {
				return fmt.Errorf("%v: %w", codec, err)
			}
		}
		return nil
	})
	flow("idempotent producer", func() error {
		config := settings()
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
		name, err := topic(3)
		if err == nil {
			err = send(name, config)
		}
		return err
	})
	flow("classic group: consume, commit, go on", func() error {
		name, err := topic(3)
		group := fresh("group")
		for round := 0; round < 2 && err == nil; round++ {
			if err = send(name, settings()); err == nil {
				err = read(name, group)
			}
		}
		return err
	})
	flow("admin: groups", func() error {
		name, err := topic(1)
		group := fresh("group")
		if err == nil {
			err = send(name, settings())
		}
		if err == nil {
			err = read(name, group)
		}
		if err != nil {
			return err
		}
		listed, err := admin.ListConsumerGroups()
		if err != nil {
			return err
		}
		if _, has := listed[group]; !has {
			return errors.New("it is not listed")
		}
		offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})
		if err != nil {
			return err
		}
		if block := offsets.GetBlock(name, 0); block == nil || block.Offset != count {
			return fmt.Errorf("committed: %v", block)
		}
		return admin.DeleteConsumerGroup(group)
	})
	flow("admin: topics, partitions, configs, records", func() error {
		name, err := topic(1)
		if err == nil {
			err = send(name, settings())
		}
		if err == nil {
			err = admin.CreatePartitions(name, 3, nil, false)
		}
		day := "86400000"
		if err == nil {
			entries := map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &day}}
			err = admin.IncrementalAlterConfig(sarama.TopicResource, name, entries, false)
		}
		if err == nil {
			var told []sarama.ConfigEntry
			told, err = admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name, ConfigNames: []string{"retention.ms"}})
			if err == nil && (len(told) != 1 || told[0].Value != day) {
				err = fmt.Errorf("retention.ms: %v", told)
			}
		}
		if err == nil {
			err = admin.DeleteRecords(name, map[int32]int64{0: 5})
		}
		if err == nil {
			err = admin.DeleteTopic(name)
		}
		return err
	})
}
