; An agent of the original, in its own language: the same protocol as original.py, on the JVM.
; Arguments: the store, the number of calls, and a file for the number of calls made.
(require '[clojure.data.json :as json] '[clojure.java.io :as io])
(let [[home calls ledger] *command-line-args*
      document (io/file home "metrics.json")
      lock (io/file home "metrics.lock")
      add (fn [counts]
            (-> counts (update "count" (fnil inc 0)) (update "success" (fnil inc 0))
                (update "total-duration" (fnil + 0) 1.5) (update "durations" (fnil conj []) 1.5)))]
  (dotimes [n (Long/parseLong calls)]
    (while (not (.createNewFile lock)) (Thread/sleep 10))
    (try
      (let [data (if (.exists document) (json/read-str (slurp document)) {})
            now (System/currentTimeMillis)]
        (spit document
              (json/write-str
               (-> data
                   (update "global" add)
                   (update-in ["tools" "jvm-tool"] add)
                   (update-in ["agents" "jvm-agent"] merge {"status" "running" "last-seen" now})
                   (update "recent-logs" #(vec (take 100 (cons {"timestamp" now "agent-id" "jvm-agent"
                                                                "tool" "jvm-tool" "status" "ok"} %))))))))
      (finally (.delete lock)))
    (spit ledger (str (inc n)))
    (Thread/sleep 20)))
