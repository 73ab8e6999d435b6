"""Language models as rerankers and as labellers, behind one method: `ChatModel.complete`."""
