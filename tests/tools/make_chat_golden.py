#!/usr/bin/env python3
"""Renders small chat templates, of the shapes that popular models use, with transformers' apply_chat_template:
make_chat_golden.py tests/golden/chat_templates/rendered.json"""
import datetime as d
import json
import sys

import transformers.utils.chat_template_utils as m
from transformers import PreTrainedTokenizerFast

T = {}
T["llama3"] = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
T["chatml"] = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
T["mistral"] = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (ns.index % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
    {%- if message['role'] == 'user' %}
        {%- if loop.last and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'].strip() + eos_token }}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported, with the exception of an initial optional system message!') }}
    {%- endif %}
{%- endfor %}
"""
T["gemma"] = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""
T["typed_content"] = """{%- macro text_of(content) -%}
    {%- if content is string -%}{{ content }}
    {%- else -%}
        {%- for part in content -%}
            {%- if part.type == 'text' -%}{{ part.text }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{% for message in messages %}
    {% if message.role not in ['user', 'assistant', 'system'] %}{% continue %}{% endif %}
<|{{ message.role | upper }}|>
{{ text_of(message.content) }}{{ eos_token }}
{% endfor %}
"""
u = lambda t: {"role": "user", "content": t}
a = lambda t: {"role": "assistant", "content": t}
s = lambda t: {"role": "system", "content": t}
tool = {"type": "function", "function": {"name": "weather", "description": "Ask for the \u00b0C \"now\" & <then>.", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}}
call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"place": "Z\u00fcrich", "days": [1, 2.5, None, True]}}}]}
C = {
 "turns": ([u("Hi \u00e9\U0001f642"), a(" Hello!\n")], None),
 "system": ([s("Be brief. "), u(" Why?\n\n"), a("Because."), u("Because what?"), a("Because so.")], None),
 "one": ([u("Hi")], None),
 "tools": ([u("How warm is it?"), call, {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": "21"}, a("21 \u00b0C.")], [tool]),
 "wrong_order": ([a("I speak first."), a("And second.")], None),
 "parts": ([{"role": "user", "content": [{"type": "text", "text": "One. "}, {"type": "text", "text": "Two."}]}, a("Three.")], None),
}
SP = {"bos_token": "<s>", "eos_token": "</s>"}


class Day(d.datetime):
    @classmethod
    def now(cls, tz=None):
        return d.datetime(2024, 7, 26, 12)


m.datetime = Day
cases = []
for name, template in T.items():
    tok = PreTrainedTokenizerFast(tokenizer_file="data/models/lathe-tiny/tokenizer.json", chat_template=template, **SP)
    for which, (messages, tools) in C.items():
        if which == "parts" and name != "typed_content":
            continue
        case = {"template": name, "conversation": which, "messages": messages, "tools": tools}
        try:
            case["text"] = tok.apply_chat_template(messages, tools=tools, tokenize=False)
        except Exception as e:
            case["error"] = str(e)
        cases.append(case)
json.dump({"special_tokens": SP, "templates": T, "cases": cases}, open(sys.argv[1], "w"), indent=1, ensure_ascii=True)
