// node generate.js ADDRESS PROMPT: streams one text, from the same protos as everything else.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const protos = fileURLToPath(new URL("../../proto", import.meta.url));
const options = { includeDirs: [protos], keepCase: true, longs: String, defaults: true };
const definition = loader.loadSync("paceline/v1/gateway.proto", options);
const { paceline } = grpc.loadPackageDefinition(definition);

const [address, prompt] = process.argv.slice(2);
const gateway = new paceline.v1.GatewayService(address, grpc.credentials.createInsecure());
const answer = gateway.Generate({ text: prompt, sampling: { max_tokens: 64, temperature: 0.8 }, seed: 7 });

answer.on("data", ({ text, completion }) => {
  process.stdout.write(text);
  if (completion) process.stdout.write(`\n${completion.usage.completion_tokens} tokens\n`);
});
answer.on("error", ({ code, details }) => {
  console.error(`${grpc.status[code]}: ${details}`);
  process.exitCode = 1;
});
answer.on("end", () => gateway.close());
