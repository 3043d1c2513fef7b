#pragma once

#include <memory>

#include "orrery/diffusion.h"

namespace orrery::models {

/// Predict1: EDM preconditioning (CosmosTextToWorldPipeline, CosmosVideoToWorldPipeline).
std::unique_ptr<DiffusionRecipe> build_cosmos_predict1_recipe(const DiffusionParts& parts);
/// Predict2: rectified flow written in σ = t / (1 − t) (Cosmos2TextToImagePipeline, Cosmos2VideoToWorldPipeline;
/// under actions, Video2WorldActionConditionedPipeline).
std::unique_ptr<DiffusionRecipe> build_cosmos_predict2_recipe(const DiffusionParts& parts);
/// Those pipelines put their own σ range over whatever scheduler_config.json says, as diffusers' constructors do.
Config cosmos_predict2_scheduler(const Config& stored);
/// Predict2.5: rectified flow, text, picture and video in one network (Cosmos2_5_PredictBasePipeline; under
/// actions, ActionVideo2WorldInference).
std::unique_ptr<DiffusionRecipe> build_cosmos_predict25_recipe(const DiffusionParts& parts);
/// Transfer2.5: Predict2.5 with a control branch (Cosmos2_5_TransferPipeline).
std::unique_ptr<DiffusionRecipe> build_cosmos_transfer25_recipe(const DiffusionParts& parts);

}  // namespace orrery::models
