import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.handler.annotation.Header;

/** The listener that a Spring team has for its dead letters. Prints one, and ends. */
@Configuration(proxyBeanMethods = false)
@EnableKafka
public class ReadDeadLetters {
    private static final CountDownLatch READ = new CountDownLatch(1);

    public static void main(String[] arguments) throws InterruptedException {
        System.setProperty("servers", arguments[0]);
        System.setProperty("topic", arguments[1]);
        try (var context = new AnnotationConfigApplicationContext(ReadDeadLetters.class)) {
            if (!READ.await(120, TimeUnit.SECONDS)) {
                throw new IllegalStateException("no dead letter was read");
            }
        }
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, String> kafkaListenerContainerFactory() {
        var factory = new ConcurrentKafkaListenerContainerFactory<String, String>();
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(Map.of(
            "bootstrap.servers", System.getProperty("servers"),
            "auto.offset.reset", "earliest",
            "key.deserializer", StringDeserializer.class,
            "value.deserializer", StringDeserializer.class)));
        return factory;
    }

    @KafkaListener(topics = "#{systemProperties['topic']}", groupId = "spring-#{systemProperties['topic']}")
    void listen(
            String value,
            @Header(KafkaHeaders.DLT_ORIGINAL_TOPIC) String topic,
            @Header(KafkaHeaders.DLT_ORIGINAL_PARTITION) int partition,
            @Header(KafkaHeaders.DLT_ORIGINAL_OFFSET) long offset,
            @Header(KafkaHeaders.DLT_ORIGINAL_TIMESTAMP) long timestamp,
            @Header(KafkaHeaders.DLT_ORIGINAL_CONSUMER_GROUP) String group,
            @Header(KafkaHeaders.DLT_EXCEPTION_FQCN) String exception,
            @Header(KafkaHeaders.DLT_EXCEPTION_MESSAGE) String message) {
        System.out.printf("read|%s|%s|%d|%d|%d|%s|%s|%s%n",
            value, topic, partition, offset, timestamp, group, exception, message);
        READ.countDown();
    }
}
